"""Servers, temporary files and processes of a test run.

Each process of pytest-xdist starts a Redis and a PostgreSQL, unless TEST_REDIS_URL and TEST_DATABASE_URL are set.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
import redis
import structlog
from support import clusters

from eventpulse.local import embedded
from models import database, migrations

TEMPORARY = pytest.StashKey[str]()
#: Parts of the paths of test files, by group. Files of a group run one after another, because their tests measure time.
TIMED = {
    "faults": ("/faults/",),
    "processes": (
        "/http/test_gevent_worker.py",
        "/http/test_slow_queries.py",
        "/journey/test_launcher",
        "/journey/test_rolling_restart.py",
    ),
}
#: Tables with rows that the migrations insert.
KEPT_TABLES = ["channels", "rulebook", "schema_migration"]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Use one process if TEST_REDIS_URL or TEST_DATABASE_URL is set: more processes would delete its data."""
    if {"TEST_REDIS_URL", "TEST_DATABASE_URL"} & os.environ.keys() and hasattr(config.option, "numprocesses"):
        config.option.numprocesses = 0


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Run the tests of a file in the same process, and the tests of a group in `TIMED` one after another."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # untyped
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((group for group, parts in TIMED.items() if any(part in file for part in parts)), file)

    return Scheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Put all temporary files of this run, and of the processes that it starts, into one folder.

    With pytest-xdist, the controller creates the folder; its workers inherit TMPDIR and get a `basetemp` in the folder.
    """
    if config.option.basetemp is None:
        folder = tempfile.mkdtemp(prefix="eventpulse-tests-")
        os.environ["TMPDIR"] = tempfile.tempdir = config.stash[TEMPORARY] = folder
        config.option.basetemp = f"{folder}/t"


def pytest_unconfigure(config: pytest.Config) -> None:
    if folder := config.stash.get(TEMPORARY, None):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def log_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo the log configuration of a test, because log handlers write to a stream that is closed after the test."""
    configure, handlers = structlog.configure, logging.root.handlers[:]

    def configure_without_cache(**options: Any) -> None:
        configure(**options | {"cache_logger_on_first_use": False})  # a cached logger could not be reset

    monkeypatch.setattr(structlog, "configure", configure_without_cache)
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if url := os.environ.get("TEST_REDIS_URL"):
        yield url
        return
    server = embedded.start_redis(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start PostgreSQL, unless TEST_DATABASE_URL is set, and return the URL of a migrated database."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        database.configure(url, name="tests")
        migrations.up()
        yield url
        return
    server = clusters.start_postgres(tmp_path_factory.mktemp("postgres") / "data")
    database.configure(server.url, name="tests")
    migrations.up()
    yield server.url
    database.database.close_all()
    server.stop()


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """Delete all data from Redis and return a client."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def empty_database(database_url: str) -> Iterator[str]:
    """Delete all rows except those of the migrations, connect the models, and return the URL of the database."""
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT string_agg('DELETE FROM ' || quote_ident(tablename), ';') FROM pg_tables"
            " WHERE schemaname = 'public' AND tablename <> ALL (%s)",
            [KEPT_TABLES],
        )
        ((deletions,),) = cursor.fetchall()
        cursor.execute(deletions)  # for few rows, DELETE is four times as fast as TRUNCATE
        cursor.execute("DELETE FROM channels WHERE kind NOT IN ('console', 'live')")
        cursor.execute("UPDATE channels SET enabled = true")
        cursor.execute("UPDATE rulebook SET revision = revision + 1")
    connection.close()
    database.configure(database_url, name="tests")
    yield database_url
    database.database.close_all()


@pytest.fixture
def db(empty_database: str) -> Iterator[None]:
    """Keep a connection to the empty database open during the test."""
    with database.connection():
        yield

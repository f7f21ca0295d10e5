"""A real Redis and a real PostgreSQL for every test that asks.

They are our own, or those of TEST_REDIS_URL and TEST_DATABASE_URL.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator

import psycopg2
import pytest
import redis

from eventpulse.local import embedded
from models import database, migrations

TEMPORARY = pytest.StashKey[str]()
TABLES = "events, pending_evaluations, rules, rule_versions, anomalies, deliveries, throughput, dead_letters"
TIMED_FOLDERS = ("faults", "journey")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Use one process with the Redis of TEST_REDIS_URL: tests empty it."""
    if "TEST_REDIS_URL" in os.environ and hasattr(config.option, "numprocesses"):
        config.option.numprocesses = 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run each file in one process, and all tests that measure time in the same one, for `--dist loadgroup`."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        is_timed = item.path.parent.name in TIMED_FOLDERS or item.get_closest_marker("timed")
        item.add_marker(pytest.mark.xdist_group("timed" if is_timed else item.path.name))


def pytest_configure(config: pytest.Config) -> None:
    """Keep all temporary files of this run, and of the processes it starts, in a folder that goes with it.

    Under pytest-xdist the controller owns the folder: its workers inherit TMPDIR and get a `basetemp` inside.
    """
    config.addinivalue_line("markers", "timed: measures time, so no other such test runs beside it")
    if config.option.basetemp is None:
        folder = tempfile.mkdtemp(prefix="eventpulse-tests-")
        os.environ["TMPDIR"] = tempfile.tempdir = config.stash[TEMPORARY] = folder
        config.option.basetemp = f"{folder}/t"


def pytest_unconfigure(config: pytest.Config) -> None:
    if folder := config.stash.get(TEMPORARY, None):
        shutil.rmtree(folder, ignore_errors=True)


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
    """A migrated database; pgserver's own folder must not exist before it makes it."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        database.configure(url, name="tests")
        migrations.up()
        yield url
        return
    server = embedded.start_postgres(tmp_path_factory.mktemp("postgres") / "data")
    database.configure(server.url, name="tests")
    migrations.up()
    yield server.url
    database.database.close_all()
    server.stop()


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """An empty Redis."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def empty_database(database_url: str) -> Iterator[str]:
    """The migrated database without rows, but for the built-in channels; the models point at it."""
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLES} CASCADE")
        cursor.execute("DELETE FROM channels WHERE kind NOT IN ('console', 'live')")
        cursor.execute("UPDATE channels SET enabled = true")
        cursor.execute("UPDATE rulebook SET revision = revision + 1")
    connection.close()
    database.configure(database_url, name="tests")
    yield database_url
    database.database.close_all()


@pytest.fixture
def db(empty_database: str) -> Iterator[None]:
    """The empty database, with a connection open for the whole test."""
    with database.connection():
        yield

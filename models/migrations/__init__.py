"""Migrations of the database schema. Each migration is a numbered file in this folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peewee
import psycopg2
from playhouse.migrations import Migration, Runner

from models.database import configure, connection, database

#: Key of the advisory lock that a migrating process holds. The key must be the same in all versions: otherwise two
#: processes could migrate at the same time.
ADVISORY_LOCK = 7_307_309_101


def up() -> list[str]:
    """Wait until no other process is migrating; then apply the pending migrations and return their names."""
    with _locked() as runner:
        return list(runner.up())


def down(target: str | None = None) -> list[str]:
    """Revert the newest migration or, with `target`, every migration from the newest to `target` inclusive.

    Return the names of the reverted migrations.
    """
    with _locked() as runner:
        return list(runner.down(target))


def status() -> list[Migration]:
    """Return all migrations in order; `applied` is None if a migration is pending."""
    with connection():
        return list(_runner().status())


def pending(database_url: str) -> list[str]:
    """Return the names of the pending migrations of a database, in order. Configures the models for this database.

    Raises `psycopg2.OperationalError` if PostgreSQL is unavailable.
    """
    configure(database_url)
    try:
        return [migration.name for migration in status() if not migration.applied]
    except peewee.PeeweeException as error:
        raise psycopg2.OperationalError(str(error)) from error
    finally:
        database.close_all()


def _runner() -> Runner:
    return Runner(database, str(Path(__file__).parent))


@contextmanager
def _locked() -> Iterator[Runner]:
    """Hold the advisory lock of migrating processes during the block; yield the runner of the migrations."""
    with connection():
        database.execute_sql("SET statement_timeout = 0")  # waiting and migrating can exceed the timeout
        database.execute_sql("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
        try:
            yield _runner()
        finally:
            database.execute_sql("SELECT pg_advisory_unlock(%s)", (ADVISORY_LOCK,))
            database.execute_sql("RESET statement_timeout")

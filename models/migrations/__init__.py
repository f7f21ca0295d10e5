"""Migrations of the database schema: numbered files in this folder, run by one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peewee
import psycopg2
from playhouse.migrations import Migration, Runner

from models.database import configure, connection, database

#: Key of the advisory lock that a migrating process holds. It must be the same in all versions.
ADVISORY_LOCK = 7_307_309_101


def up() -> list[str]:
    """Apply the pending migrations and return their names. Wait until no other process is migrating."""
    with _locked() as runner:
        return list(runner.up())


def down(target: str | None = None) -> list[str]:
    """Revert the newest migration, or all from the newest back to and including `target`, and return their names."""
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
    """Yield the runner of the migrations while holding the lock of migrating processes."""
    with connection():
        database.execute_sql("SET statement_timeout = 0")  # waiting for the lock and migrating can take long
        database.execute_sql("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
        try:
            yield _runner()
        finally:
            database.execute_sql("SELECT pg_advisory_unlock(%s)", (ADVISORY_LOCK,))
            database.execute_sql("RESET statement_timeout")

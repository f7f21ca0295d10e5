"""The schema's history: numbered scripts beside this file, run one at a time in the whole deployment."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playhouse.migrations import Migration, Runner

from models.database import connection, database

#: Any number will do, as long as every process of every version agrees on it.
ADVISORY_LOCK = 7_307_309_101


def up() -> list[str]:
    """Apply what is pending; returns the names. Waits while another process migrates."""
    with _alone() as runner:
        return list(runner.up())


def down(target: str | None = None) -> list[str]:
    """Revert the newest migration, or all back through `target`; returns the names."""
    with _alone() as runner:
        return list(runner.down(target))


def status() -> list[Migration]:
    """Every migration in order; `applied` is None for those that are pending."""
    with connection():
        return list(_runner().status())


def _runner() -> Runner:
    return Runner(database, str(Path(__file__).parent))


@contextmanager
def _alone() -> Iterator[Runner]:
    with connection():
        database.execute_sql("SET statement_timeout = 0")  # others may take long, and so may we
        database.execute_sql("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
        try:
            yield _runner()
        finally:
            database.execute_sql("SELECT pg_advisory_unlock(%s)", (ADVISORY_LOCK,))
            database.execute_sql("RESET statement_timeout")

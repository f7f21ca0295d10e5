"""The one connection pool of a process, and what its failures mean."""

from contextlib import AbstractContextManager

import peewee
from playhouse.pool import PooledPostgresqlDatabase

POOL_WAIT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 30  # below the actors' time limit: a query is cut off by PostgreSQL, not by Python

#: PostgreSQL is away, or gave up on a statement: the same work may succeed later, unchanged.
OUTAGES = (peewee.OperationalError, peewee.InterfaceError)

# Bound to a server by `configure`: peewee's models need their database when they are defined.
database = PooledPostgresqlDatabase(None, autoconnect=False)


def configure(url: str, *, connections: int = 16, name: str = "eventpulse") -> None:
    """Point the models at the PostgreSQL of `url`; connects nothing yet.

    At most `connections` are open at once; a thread that finds them all taken waits for
    `POOL_WAIT_SECONDS`. `name` is what `pg_stat_activity` shows.
    """
    database.init(
        url.replace("postgres://", "postgresql://", 1),
        max_connections=connections,
        stale_timeout=300,
        timeout=POOL_WAIT_SECONDS,
        connect_timeout=5,
        application_name=name,
        options=f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s",
    )


def connection() -> AbstractContextManager[None]:
    """A connection of the pool for one unit of work: a request, an actor's call, a duty."""
    return database.connection_context()

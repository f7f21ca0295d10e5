"""The one connection pool of a process, and what its failures mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import psycopg2
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase

POOL_WAIT_SECONDS = 5
CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 30  # a query is cut off by PostgreSQL, not by Python

# SQLSTATE: connection exception, insufficient resources, operator intervention (less a cancelled statement), read-only,
# and a transaction that gave way to another (deadlock).
OUTAGE_CODES = ("08", "53", "57P", "25006", "40")
STATEMENT_CANCELLED = "57014"

#: A server that vanished without a word is noticed within seconds, not hours.
KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
#: The same from the server's side, for its `options`: a host that vanished keeps neither leadership nor locks.
SERVER_KEEPALIVE = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=10000"
    " -c idle_in_transaction_session_timeout=30s"
)

# Bound to a server by `configure`: peewee's models need their database when they are defined.
database = PooledPostgresqlDatabase(None, autoconnect=False)


def configure(url: str, *, connections: int = 16, name: str = "eventpulse") -> None:
    """Point the models at the PostgreSQL of `url`; connects nothing yet.

    At most `connections` are open at once; who finds them all taken waits for
    `POOL_WAIT_SECONDS`. `name` is what `pg_stat_activity` shows.
    """
    database.close_idle()  # what is pooled still leads to the server of before
    database.init(
        url.replace("postgres://", "postgresql://", 1),
        max_connections=connections,
        stale_timeout=300,
        timeout=POOL_WAIT_SECONDS,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        **KEEPALIVE,
        application_name=name,
        options=f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_SECONDS}s {SERVER_KEEPALIVE}",
    )


@contextmanager
def connection() -> Iterator[None]:
    """A connection of the pool for one unit of work: a request, an actor's call, a duty; inside another, that one."""
    opened = database.connect(reuse_if_open=True)
    try:
        yield
    finally:
        if opened:
            database.close()


def is_too_slow(error: BaseException) -> bool:
    """Whether PostgreSQL cut a statement off because it took longer than `STATEMENT_TIMEOUT_SECONDS`."""
    return _code(error) == STATEMENT_CANCELLED


def is_outage(error: BaseException) -> bool:
    """Whether PostgreSQL is away, starting or out of resources: the same work will succeed later, unchanged."""
    if isinstance(error, MaxConnectionsExceeded):
        return True
    if not isinstance(error, peewee.DatabaseError | peewee.InterfaceError):
        return False
    code = _code(error)
    if code is not None:
        return code.startswith(OUTAGE_CODES)
    # No answer of the server at all; the driver has no better name than DatabaseError for one that crashed meanwhile.
    lost = type(getattr(error, "orig", None)) is psycopg2.DatabaseError
    return lost or isinstance(error, peewee.OperationalError | peewee.InterfaceError)


def _code(error: BaseException) -> str | None:
    """The SQLSTATE of an error of peewee's, which wraps the driver's."""
    return getattr(getattr(error, "orig", None), "pgcode", None)

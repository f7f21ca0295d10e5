"""Connection pool of a process, and classification of database errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peewee
import psycopg2
from playhouse.pool import MaxConnectionsExceeded, PooledPostgresqlDatabase

POOL_WAIT_SECONDS = 5
CONNECT_TIMEOUT_SECONDS = 5
STATEMENT_TIMEOUT_SECONDS = 30  # of workers and migrations; enforced by PostgreSQL

# Prefixes of the SQLSTATE codes that count as an outage: connection exception, insufficient resources, operator
# intervention except a cancelled statement, read-only transaction, and transaction rollback (deadlock).
OUTAGE_CODES = ("08", "53", "57P", "25006", "40")
STATEMENT_CANCELLED = "57014"

#: Options of the client that detect a lost server within about 10 seconds. With the defaults of the operating system,
#: detection takes two hours.
KEEPALIVE: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
#: Options of the server that end connections of lost clients and idle transactions, because these could hold locks or
#: the leadership.
SERVER_KEEPALIVE = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=10000"
    " -c idle_in_transaction_session_timeout=30s"
)

# Models need a database when they are defined; `configure` sets its server later.
database = PooledPostgresqlDatabase(None, autoconnect=False)


def configure(
    url: str,
    *,
    connections: int = 16,
    name: str = "eventpulse",
    statement_timeout_seconds: int = STATEMENT_TIMEOUT_SECONDS,
) -> None:
    """Configure the models for the PostgreSQL server of `url`, without connecting.

    At most `connections` are open at the same time. If all are in use, a caller waits up to `POOL_WAIT_SECONDS` for
    a connection. `name` is the name of the application in `pg_stat_activity`.
    """
    database.close_idle()  # pooled connections belong to the previous server
    database.init(
        url.replace("postgres://", "postgresql://", 1),
        max_connections=connections,
        stale_timeout=300,
        timeout=POOL_WAIT_SECONDS,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        **KEEPALIVE,
        application_name=name,
        options=f"-c timezone=UTC -c statement_timeout={statement_timeout_seconds}s {SERVER_KEEPALIVE}",
    )


@contextmanager
def connection() -> Iterator[None]:
    """Hold a connection of the pool during the block. A nested block uses the connection of the outer block."""
    opened = database.connect(reuse_if_open=True)
    try:
        yield
    finally:
        if opened:
            database.close()


def cancel(backend_pid: int) -> None:
    """Cancel the statement that runs in this server process of PostgreSQL; no effect if no statement runs.

    The statement raises an error for which `is_too_slow` returns True.
    """
    with connection():
        database.execute_sql("SELECT pg_cancel_backend(%s)", (backend_pid,))


def is_too_slow(error: BaseException) -> bool:
    """Return whether PostgreSQL cancelled the statement: its timeout expired, or `cancel` was called."""
    return _code(error) == STATEMENT_CANCELLED


def is_outage(error: BaseException) -> bool:
    """Return whether a later attempt can succeed.

    This is the case if PostgreSQL is unavailable, out of resources or read-only, if PostgreSQL rolled the transaction
    back because of a deadlock, or if all connections of the pool were in use.
    """
    if isinstance(error, MaxConnectionsExceeded):
        return True
    if not isinstance(error, peewee.DatabaseError | peewee.InterfaceError):
        return False
    code = _code(error)
    if code is not None:
        return code.startswith(OUTAGE_CODES)
    # An error without a code means that the server did not respond. If the server crashed during the call, psycopg2
    # raises a plain DatabaseError.
    lost = type(getattr(error, "orig", None)) is psycopg2.DatabaseError
    return lost or isinstance(error, peewee.OperationalError | peewee.InterfaceError)


def _code(error: BaseException) -> str | None:
    """Return the SQLSTATE of the psycopg2 error that a peewee error wraps; None without an SQLSTATE."""
    return getattr(getattr(error, "orig", None), "pgcode", None)

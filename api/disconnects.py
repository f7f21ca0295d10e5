"""Detection of clients that have disconnected, and cancellation of their queries.

A client that closes only its sending side after a request (a half-close) counts as disconnected, as in nginx and Go:
the server cannot distinguish a half-close from the end of the client. Such a client gets its response only if the
request does not wait for a connection to PostgreSQL, and its query is shorter than `CHECK_SECONDS`.
"""

import select
from socket import socket

import gevent
import psycopg2
import structlog
from gevent.local import local
from gevent.lock import BoundedSemaphore
from gevent.monkey import get_original
from gevent.socket import wait_read, wait_write
from psycopg2 import extensions

log = structlog.get_logger()

#: Time between two checks of the client while its query runs.
CHECK_SECONDS = 0.25
#: Flag of the end of the client's data. Without the flag (macOS), only a connection that was closed completely counts.
RDHUP = getattr(select, "POLLRDHUP", 0)

#: Client of the request in this greenlet.
_watched = local()
#: Lock that limits cancellations to one connection of the pool.
_cancelling = BoundedSemaphore(1)


def has_disconnected(client: socket) -> bool:
    """Return whether the client has closed its connection, without reading from the connection.

    Reading would remove bytes of a pipelined request, and would not find the end of the data behind these bytes.
    """
    poll = get_original("select", "poll")()  # the poll of gevent ignores POLLRDHUP
    poll.register(client, RDHUP)
    return bool(poll.poll(0))


def watch(client: socket | None) -> None:
    """Cancel the query of this greenlet when `client` disconnects; None ends this."""
    _watched.client = client


def wait(connection: extensions.connection) -> None:
    """Run other greenlets until a call to PostgreSQL is complete; cancel the query if the watched client disconnects.

    PostgreSQL reports the cancelled query as failed, so the connection remains usable. Raises
    `psycopg2.OperationalError` if connecting takes longer than `CONNECT_TIMEOUT_SECONDS`: psycopg2 ignores its option
    `connect_timeout` if a wait callback is set.
    """
    # Imported here, not at the top: `models.database` imports peewee, which gevent's monkey patch must precede.
    from models.database import CONNECT_TIMEOUT_SECONDS

    connecting = connection.status == extensions.STATUS_SETUP
    timeout_error = psycopg2.OperationalError(f"no connection within {CONNECT_TIMEOUT_SECONDS} s")
    with gevent.Timeout(CONNECT_TIMEOUT_SECONDS if connecting else None, timeout_error):
        while (state := connection.poll()) != extensions.POLL_OK:
            client = None if connecting else getattr(_watched, "client", None)
            wait_until_ready = wait_read if state == extensions.POLL_READ else wait_write
            try:
                wait_until_ready(connection.fileno(), timeout=CHECK_SECONDS if client else None)
            except TimeoutError:
                if client and has_disconnected(client):
                    watch(None)
                    # The models have one connection in each greenlet, and the connection of this greenlet is in use.
                    gevent.spawn(_cancel, connection.get_backend_pid()).join()


def _cancel(backend_pid: int) -> None:
    """Cancel the query of a server process of PostgreSQL; if this fails, the query ends at its statement timeout.

    `connection.cancel()` of psycopg2 is not used: it stops all greenlets until PostgreSQL responds.
    """
    from models import database

    with _cancelling:
        try:
            database.cancel(backend_pid)
        except Exception as error:
            log.warning("query_not_cancelled", reason=str(error))

"""gevent worker for gunicorn: calls of psycopg2 yield to other greenlets, and idle connections are closed on a stop.

Each request runs as synchronous code in a greenlet. A request that waits for a slow client, Redis or PostgreSQL does
not block other requests, and no threads compete for the interpreter lock.
"""

import sys
import warnings
from contextlib import suppress
from types import FrameType
from typing import Any

import gevent
from gevent.monkey import MonkeyPatchWarning
from gunicorn.http.errors import ParseException
from gunicorn.util import close_graceful
from gunicorn.workers.ggevent import GeventWorker
from psycopg2 import extensions

from api import disconnects
from api.client_address import address_group
from api.client_connections import ClientSocket, Connections, UnsentResponses

#: Limits for discarding the unread part of a body: number of bytes, and time. The connection is closed if the end of
#: the body is not reached within these limits.
MAX_DRAINED_BYTES = 64 * 1024
DRAIN_SECONDS = 0.5
#: Time in which a client must send the first header of a connection, and each later header after its first byte.
HEADER_SECONDS = 10.0
#: Time to wait for the next request of a connection during shutdown, so that a request already received is served.
SHUTDOWN_KEEPALIVE_SECONDS = 0.1
#: Number of connections below `worker_connections` at which idle connections are closed. gevent stops to accept
#: connections at `worker_connections`, and accepts up to 100 before it runs their greenlets.
ACCEPT_RESERVE = 100

BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%b"
)
BUSY_PROBLEM = (
    b'{"type":"/problems/service-unavailable","title":"Service Unavailable","status":503,'
    b'"detail":"Too many connections of this address have a request in progress"}'
)


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn is untyped
    """Worker that limits connections, and closes idle ones at shutdown and those with a body that it cannot drain."""

    def init_process(self) -> None:
        limit = self.worker_connections - ACCEPT_RESERVE
        self._connections = Connections(limit, self.app.settings.max_connections_per_address)
        self._unsent = UnsentResponses()
        self._clients: dict[Any, ClientSocket] = {}
        # gevent must patch locks and thread-local state before the import of peewee creates them. The parent process
        # must not import peewee either, because a fork inherits the imported modules.
        assert "peewee" not in sys.modules, "peewee was imported before the fork"
        # gevent warns because the preflight check imports ssl before the patch. The warning has no consequence: only
        # redis.asyncio keeps unpatched names of ssl, and the API does not use redis.asyncio.
        warnings.filterwarnings("ignore", category=MonkeyPatchWarning)
        extensions.set_wait_callback(disconnects.wait)
        super().init_process()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        connection = gevent.getcurrent()
        client = self._clients[connection] = ClientSocket(client, address_group(addr[0]), self._unsent)
        try:
            if self._connections.add(client):
                super().handle(listener, client, addr)
            else:
                _reject(client)
        finally:
            self._connections.remove(client)
            del self._clients[connection]

    def timeout_ctx(self) -> "_Idle":
        """Return the context manager for the time in which a connection waits for its next request."""
        return _Idle(self, self._connections, self._clients[gevent.getcurrent()])

    def idle_seconds(self, is_first: bool) -> float:
        """Return the time limit for the first header of a connection, or for the first byte of a later header."""
        if not self.alive:
            return SHUTDOWN_KEEPALIVE_SECONDS
        return HEADER_SECONDS if is_first else float(self.cfg.keepalive)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        super().handle_request(listener_name, req, sock, addr)
        if not _drain(req.body):
            raise StopIteration  # gunicorn closes the connection
        sock.settimeout(None)  # a failed read may have left a timeout on the socket

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._connections.close_idle()


def _reject(client: ClientSocket) -> None:
    """Answer 503 to a connection whose address has too many connections, without reading its request."""
    with suppress(OSError):
        client.sendall(BUSY % (len(BUSY_PROBLEM), BUSY_PROBLEM))
    close_graceful(client, DRAIN_SECONDS)  # a plain close would discard the response if the request is unread


def _drain(body: Any) -> bool:
    """Read and discard up to `MAX_DRAINED_BYTES` of an unread body; return whether the end of the body was reached."""
    left = MAX_DRAINED_BYTES
    with suppress(OSError, ParseException, gevent.Timeout), gevent.Timeout(DRAIN_SECONDS):
        while left > 0:
            chunk = body.read(left)
            if not chunk:
                return True
            left -= len(chunk)
    return False


class _Idle:
    """Context manager that lists a connection as idle and limits the time until the header of its next request."""

    def __init__(self, worker: Worker, connections: Connections, client: ClientSocket) -> None:
        self._worker = worker
        self._connections = connections
        self._client = client

    def __enter__(self) -> None:
        client = self._client
        self._connections.mark_idle(client)
        # Create the timeout after listing the client: otherwise a shutdown between these two steps would neither close
        # the client nor shorten its timeout.
        client.start_reading(self)
        self._is_first = client.requests == 1
        self._start_timeout(self._worker.idle_seconds(self._is_first))

    def header_started(self) -> None:
        """Limit the time for the rest of the header. The timeout of the first header is already running."""
        if not self._is_first:
            self._timeout.close()
            self._start_timeout(HEADER_SECONDS)

    def __exit__(self, *raised: Any) -> bool | None:
        self._client.idle = None
        self._connections.mark_busy(self._client)
        suppressed: bool | None = self._timeout.__exit__(*raised)
        return suppressed

    def _start_timeout(self, seconds: float) -> None:
        # False: the block ends without an exception.
        self._timeout = gevent.Timeout(seconds, False)  # type: ignore[arg-type]
        self._timeout.start()

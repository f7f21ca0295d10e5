"""gevent worker for gunicorn: calls of psycopg2 yield to other greenlets, and idle connections are closed on a stop.

Each request runs as synchronous code in a greenlet. A request that waits for a slow client, Redis or PostgreSQL does
not block other requests, and no threads compete for the interpreter lock.
"""

import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR, fromfd, socket
from types import FrameType
from typing import Any

import gevent
from gevent.monkey import MonkeyPatchWarning
from gunicorn.http.errors import ParseException
from gunicorn.workers.ggevent import GeventWorker
from psycopg2 import extensions

from api import disconnects

#: Limits for discarding the unread part of a body: number of bytes, and time. The connection is closed if the end of
#: the body is not reached within these limits.
MAX_DRAINED_BYTES = 64 * 1024
DRAIN_SECONDS = 0.5
#: Time to wait for the next request of a connection during shutdown, so that a request already received is served.
SHUTDOWN_KEEPALIVE_SECONDS = 0.1


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn is untyped
    """Worker that closes idle connections at shutdown, and connections with an unread body that it cannot drain."""

    def init_process(self) -> None:
        self._clients: dict[Any, socket] = {}
        self._idle: set[socket] = set()
        # gevent must patch locks and thread-local state before the import of peewee creates them. The parent process
        # must not import peewee either, because a fork inherits the imported modules.
        assert "peewee" not in sys.modules, "peewee was imported before the fork"
        # gevent warns because the preflight check imports ssl before the patch. The warning has no consequence: only
        # redis.asyncio keeps unpatched names of ssl, and the API does not use redis.asyncio.
        warnings.filterwarnings("ignore", category=MonkeyPatchWarning)
        extensions.set_wait_callback(disconnects.wait)
        super().init_process()

    def handle(self, listener: Any, client: socket, addr: Any) -> None:
        connection = gevent.getcurrent()
        self._clients[connection] = client
        try:
            super().handle(listener, client, addr)
        finally:
            del self._clients[connection]

    def timeout_ctx(self) -> "_Idle":
        """Return the context manager for the time in which a connection waits for its next request."""
        return _Idle(self._idle, self._clients[gevent.getcurrent()], self._keepalive)

    def _keepalive(self) -> gevent.Timeout:
        seconds = self.cfg.keepalive if self.alive else SHUTDOWN_KEEPALIVE_SECONDS
        return gevent.Timeout(seconds, False)  # type: ignore[arg-type] # False: the block ends without an exception

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        super().handle_request(listener_name, req, sock, addr)
        if not _drain(req.body):
            raise StopIteration  # gunicorn closes the connection
        sock.settimeout(None)  # a failed read may have left a timeout on the socket

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        for client in list(self._idle):
            # Shut down a duplicate of the socket: gevent raises an error if a greenlet waits for the socket itself.
            with suppress(OSError), fromfd(client.fileno(), client.family, client.type) as duplicate:
                duplicate.shutdown(SHUT_RDWR)


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
    """Context manager that lists a connection as idle and limits the time until its next request."""

    def __init__(self, idle: set[socket], client: socket, timeout: Callable[[], gevent.Timeout]) -> None:
        self._idle = idle
        self._client = client
        self._make_timeout = timeout

    def __enter__(self) -> None:
        self._idle.add(self._client)
        # Create the timeout after listing the client: otherwise a shutdown between these two steps would neither close
        # the client nor shorten its timeout.
        self._timeout = self._make_timeout()
        self._timeout.__enter__()

    def __exit__(self, *raised: Any) -> bool | None:
        self._idle.discard(self._client)
        suppressed: bool | None = self._timeout.__exit__(*raised)
        return suppressed

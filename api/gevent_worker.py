"""gevent worker for gunicorn with cooperative psycopg2 and prompt shutdown of idle connections.

Each request runs in a greenlet, as synchronous code. A request that waits for a slow client, Redis or PostgreSQL does
not block the others, and no threads compete for the interpreter lock.
"""

import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR, fromfd, socket
from types import FrameType
from typing import Any

import gevent
import psycopg2
from gevent.monkey import MonkeyPatchWarning
from gevent.socket import wait_read, wait_write
from gunicorn.http.errors import ParseException
from gunicorn.workers.ggevent import GeventWorker
from psycopg2 import extensions

#: The unread remainder of a body is drained up to this size and for this long; then the connection is closed.
MAX_DRAINED_BYTES = 64 * 1024
DRAIN_SECONDS = 0.5
#: Wait for the next request of a connection during shutdown: long enough for a request that has already arrived.
SHUTDOWN_KEEPALIVE_SECONDS = 0.1


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn is untyped
    """Worker that closes idle connections at shutdown, and connections whose client sends an endless body."""

    def init_process(self) -> None:
        self._clients: dict[Any, socket] = {}
        self._idle: set[socket] = set()
        # peewee creates locks and thread-local state when it is imported: gevent must patch these first. The parent
        # process must not import it either, because a fork inherits its modules.
        assert "peewee" not in sys.modules, "peewee was imported before the fork"
        # The preflight check imports ssl before the patch. Of the modules that gevent warns about, only redis.asyncio
        # keeps unpatched names, and the API does not use it.
        warnings.filterwarnings("ignore", category=MonkeyPatchWarning)
        extensions.set_wait_callback(wait)
        super().init_process()

    def handle(self, listener: Any, client: socket, addr: Any) -> None:
        connection = gevent.getcurrent()
        self._clients[connection] = client
        try:
            super().handle(listener, client, addr)
        finally:
            del self._clients[connection]

    def timeout_ctx(self) -> "_Idle":
        """Return the context of the wait for the next request of a connection."""
        return _Idle(self._idle, self._clients[gevent.getcurrent()], self._keepalive)

    def _keepalive(self) -> gevent.Timeout:
        seconds = self.cfg.keepalive if self.alive else SHUTDOWN_KEEPALIVE_SECONDS
        return gevent.Timeout(seconds, False)  # type: ignore[arg-type] # False: the block ends without an exception

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        super().handle_request(listener_name, req, sock, addr)
        if not _drain(req.body):
            raise StopIteration  # closes the connection
        sock.settimeout(None)  # removes the timeout that a failed read may have left

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        for client in list(self._idle):
            # Shut down a dup: gevent raises if the awaited socket itself is shut down.
            with suppress(OSError), fromfd(client.fileno(), client.family, client.type) as duplicate:
                duplicate.shutdown(SHUT_RDWR)


def _drain(body: Any) -> bool:
    """Drain up to `MAX_DRAINED_BYTES` of an unread body; return whether it is exhausted."""
    left = MAX_DRAINED_BYTES
    with suppress(OSError, ParseException, gevent.Timeout), gevent.Timeout(DRAIN_SECONDS):
        while left > 0:
            chunk = body.read(left)
            if not chunk:
                return True
            left -= len(chunk)
    return False


class _Idle:
    """Context that lists a client as idle while its next request is awaited, with a timeout."""

    def __init__(self, idle: set[socket], client: socket, timeout: Callable[[], gevent.Timeout]) -> None:
        self._idle = idle
        self._client = client
        self._make_timeout = timeout

    def __enter__(self) -> None:
        self._idle.add(self._client)
        # After the client is listed: a shutdown that begins here finds it, an earlier one shortens the timeout.
        self._timeout = self._make_timeout()
        self._timeout.__enter__()

    def __exit__(self, *raised: Any) -> bool | None:
        self._idle.discard(self._client)
        suppressed: bool | None = self._timeout.__exit__(*raised)
        return suppressed


def wait(connection: extensions.connection) -> None:
    """Run other greenlets until PostgreSQL has answered.

    Raises `OperationalError` if a connection takes too long: the driver's own timeout has no effect here.
    """
    from models.database import CONNECT_TIMEOUT_SECONDS  # imports peewee, so only after the patch

    connecting = connection.status == extensions.STATUS_SETUP
    timeout_error = psycopg2.OperationalError(f"no connection within {CONNECT_TIMEOUT_SECONDS} s")
    with gevent.Timeout(CONNECT_TIMEOUT_SECONDS if connecting else None, timeout_error):
        while (state := connection.poll()) != extensions.POLL_OK:
            wait_until_ready = wait_read if state == extensions.POLL_READ else wait_write
            wait_until_ready(connection.fileno())

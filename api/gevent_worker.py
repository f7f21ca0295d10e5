"""gunicorn's gevent worker, made fit: PostgreSQL keeps nobody else waiting, and idle connections no stop.

Each request runs in a greenlet, as plain synchronous code. One that waits, for a slow client, Redis or PostgreSQL,
costs the others nothing, and there is no lock of the interpreter to fight for.
"""

import sys
import warnings
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

#: Of a body that a request was refused without: more of it, or longer, and the connection ends instead.
LARGEST_REST_BYTES = 64 * 1024
REST_SECONDS = 0.5


class Worker(GeventWorker):  # type: ignore[misc] # gunicorn is untyped
    """Ends connections at once that are between two requests when it stops, or whose client sends without end."""

    def init_process(self) -> None:
        self._clients: dict[Any, socket] = {}
        self._idle: set[socket] = set()
        # peewee makes its locks and its connection of a thread when it is imported: gevent has to patch these first.
        assert "peewee" not in sys.modules
        # The look at Redis before the fork imported ssl, of which gevent warns. Of those who took names out of it, and
        # keep them unpatched, it lists redis.asyncio alone, and nobody here uses that.
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
        """Around the wait for a connection's next request."""
        return _Idle(self._idle, self._clients[gevent.getcurrent()], super().timeout_ctx())

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        super().handle_request(listener_name, req, sock, addr)
        if not _is_read(req.body):
            raise StopIteration  # ends the connection
        sock.settimeout(None)  # a body that was broken may have left its own behind

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        for client in list(self._idle):
            # A twin, for gevent takes it for an error when a socket that is waited for is shut down itself.
            with suppress(OSError), fromfd(client.fileno(), client.family, client.type) as twin:
                twin.shutdown(SHUT_RDWR)


def _is_read(body: Any) -> bool:
    """Whether nothing of a body is left, now that a little of what nobody asked for was thrown away."""
    left = LARGEST_REST_BYTES
    with suppress(OSError, ParseException, gevent.Timeout), gevent.Timeout(REST_SECONDS):
        while left > 0:
            piece = body.read(left)
            if not piece:
                return True
            left -= len(piece)
    return False


class _Idle:
    """Counts a client among the idle while its next request is waited for, with that much patience."""

    def __init__(self, idle: set[socket], client: socket, patience: gevent.Timeout) -> None:
        self._idle = idle
        self._client = client
        self._patience = patience

    def __enter__(self) -> None:
        self._idle.add(self._client)
        self._patience.__enter__()

    def __exit__(self, *raised: Any) -> bool | None:
        self._idle.discard(self._client)
        ended: bool | None = self._patience.__exit__(*raised)
        return ended


def wait(connection: extensions.connection) -> None:
    """Let other greenlets run until PostgreSQL has answered.

    The driver's own limit does not apply here: a connection that is not made in time raises `OperationalError`.
    """
    from models.database import CONNECT_TIMEOUT_SECONDS  # see above

    connecting = connection.status == extensions.STATUS_SETUP
    late = psycopg2.OperationalError(f"no connection within {CONNECT_TIMEOUT_SECONDS} s")
    with gevent.Timeout(CONNECT_TIMEOUT_SECONDS if connecting else None, late):
        while (state := connection.poll()) != extensions.POLL_OK:
            await_ready = wait_read if state == extensions.POLL_READ else wait_write
            await_ready(connection.fileno())

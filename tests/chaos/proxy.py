"""TCP proxy for Redis that can drop replies and delay all bytes."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.connection import parse_url

READ_BYTES = 1 << 16
PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"


class Proxy(socketserver.ThreadingTCPServer):
    """TCP proxy: a client that connects to `url` is connected to the Redis at `redis_url`."""

    allow_reuse_address = True

    def __init__(self, redis_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarder)
        to = parse_url(redis_url)
        self.target = to.get("path") or (to.get("host", "127.0.0.1"), to.get("port", 6379))
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/{to.get('db', 0)}"
        #: Number of requests that Redis executed and whose replies were dropped.
        self.dropped = 0
        self._to_drop, self._containing = 0, b""
        self._lock = threading.Lock()
        self.flowing, self._closing = threading.Event(), threading.Event()
        self.flowing.set()
        self._ends: set[socket.socket] = set()

    def drop_replies(self, count: int, containing: bytes = b"") -> None:
        """Drop the replies to the next `count` requests with these bytes, and close the connections of their clients.

        Redis executes these requests. In a pipeline, replies to earlier requests may be lost too, and later requests
        are not executed.
        """
        with self._lock:
            self._to_drop, self._containing = count, containing

    def freeze(self) -> None:
        """Forward no bytes until `thaw` is called; connections stay open."""
        self.flowing.clear()

    def thaw(self) -> None:
        """Forward the delayed bytes and all later bytes."""
        self.flowing.set()

    def is_to_drop(self, request: bytes) -> bool:
        """Return whether to drop the reply to this request; if so, count it in `dropped`."""
        with self._lock:
            if self._to_drop == 0 or self._containing not in request:
                return False
            self._to_drop -= 1
            self.dropped += 1
            return True

    def add(self, end: socket.socket) -> None:
        """Register a socket, so that `end` closes it."""
        with self._lock:
            self._ends.add(end)
        if self._closing.is_set():
            _shut(end)

    def remove(self, end: socket.socket) -> None:
        with self._lock:
            self._ends.discard(end)

    def end(self) -> None:
        """Close all connections of the proxy."""
        self._closing.set()
        self.thaw()
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            _shut(end)

    def handle_error(self, _request: object, _address: object) -> None:
        """Ignore errors: while Redis is unavailable, each connection fails, and a traceback would be printed."""


class _Forwarder(socketserver.BaseRequestHandler):
    """Handler of one connection: requests are parsed one by one, replies are forwarded without parsing."""

    server: Proxy
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        family = socket.AF_UNIX if isinstance(self.server.target, str) else socket.AF_INET
        with socket.socket(family) as upstream:
            upstream.connect(self.server.target)
            self.is_dropping, self.done = threading.Event(), threading.Event()
            for end in (self.request, upstream):
                self.server.add(end)
            replies = threading.Thread(target=self._forward_replies, args=(upstream,))
            replies.start()
            try:
                self._forward_requests(upstream)
            finally:
                _shut(self.request)
                _shut(upstream)
                replies.join()
                for end in (self.request, upstream):
                    self.server.remove(end)

    def _forward_requests(self, upstream: socket.socket) -> None:
        received = bytearray()
        with suppress(OSError):
            while data := self.request.recv(READ_BYTES):
                received += data
                while size := first_request_size(received):
                    request = bytes(received[:size])
                    del received[:size]
                    self.server.flowing.wait()
                    if self.server.is_to_drop(request):
                        self.is_dropping.set()
                        # Redis replies in order: the reply to this PING shows that the request was executed.
                        upstream.sendall(request + PING)
                        self.done.wait()
                        return
                    upstream.sendall(request)

    def _forward_replies(self, upstream: socket.socket) -> None:
        last = b""
        with suppress(OSError):
            while data := upstream.recv(READ_BYTES):
                self.server.flowing.wait()
                if self.is_dropping.is_set():
                    last = (last + data)[-len(PONG) :]
                    if last == PONG:
                        break
                else:
                    self.request.sendall(data)
        self.done.set()
        _shut(self.request)


def first_request_size(received: bytearray) -> int:
    """Return the byte length of the first request (`*2\\r\\n$3\\r\\nGET\\r\\n…`), or 0 if the request is incomplete."""
    at = received.find(b"\r\n") + 2
    if at < 2:
        return 0
    if received[:1] != b"*":
        return at
    for _ in range(int(received[1 : at - 2])):
        line = received.find(b"\r\n", at)
        if line < 0:
            return 0
        at = line + 2 + int(received[at + 1 : line]) + 2
        if at > len(received):
            return 0
    return at


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(redis_url: str) -> Iterator[Proxy]:
    """Run a proxy for the Redis at this URL; the end of the block closes all connections and ends all threads."""
    with Proxy(redis_url) as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield started
        finally:
            started.shutdown()
            started.end()
            thread.join()

"""Proxy in front of a Redis that can drop replies and hold back bytes."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.connection import parse_url

READ_BYTES = 1 << 16
PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"


class Proxy(socketserver.ThreadingTCPServer):
    """TCP proxy; clients connect to `url` and reach the Redis of `redis_url`."""

    allow_reuse_address = True

    def __init__(self, redis_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarder)
        to = parse_url(redis_url)
        self.target = to.get("path") or (to.get("host", "127.0.0.1"), to.get("port", 6379))
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/{to.get('db', 0)}"
        #: Total number of requests that Redis executed and whose replies were dropped.
        self.dropped = 0
        self._to_drop, self._containing = 0, b""
        self._lock = threading.Lock()
        self.flowing, self._closing = threading.Event(), threading.Event()
        self.flowing.set()
        self._ends: set[socket.socket] = set()

    def drop_replies(self, count: int, containing: bytes = b"") -> None:
        """Close the connection of the next `count` requests with these bytes after Redis has executed them.

        In a pipeline, replies to earlier requests may be lost too, and later requests are not executed.
        """
        with self._lock:
            self._to_drop, self._containing = count, containing

    def freeze(self) -> None:
        """Receive bytes but forward none in either direction; connections stay open."""
        self.flowing.clear()

    def thaw(self) -> None:
        """Forward the bytes that were held back, and resume."""
        self.flowing.set()

    def is_to_drop(self, request: bytes) -> bool:
        """Return whether to drop the reply to this request, and count it."""
        with self._lock:
            if self._to_drop == 0 or self._containing not in request:
                return False
            self._to_drop -= 1
            self.dropped += 1
            return True

    def add(self, end: socket.socket) -> None:
        """Register a socket that is closed when the proxy ends."""
        with self._lock:
            self._ends.add(end)
        if self._closing.is_set():
            _shut(end)

    def forget(self, end: socket.socket) -> None:
        with self._lock:
            self._ends.discard(end)

    def end(self) -> None:
        """Close all connections."""
        self._closing.set()
        self.thaw()
        with self._lock:
            ends = list(self._ends)
        for end in ends:
            _shut(end)

    def handle_error(self, _request: object, _address: object) -> None:
        """Ignore errors: while Redis is unavailable, the proxy closes connections silently."""


class _Forwarder(socketserver.BaseRequestHandler):
    """One connection: requests are parsed one by one, replies are forwarded unparsed."""

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
                    self.server.forget(end)

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
                        # Redis replies in order: the reply to this PING follows the execution of the request.
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
    """Return the length in bytes of the first request (`*2\\r\\n$3\\r\\nGET\\r\\n…`); 0 if it is incomplete."""
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
    """Run a proxy to the Redis of this URL; its connections and threads end with the block."""
    with Proxy(redis_url) as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield started
        finally:
            started.shutdown()
            started.end()
            thread.join()

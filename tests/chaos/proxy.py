"""A proxy in front of a Redis, that loses answers and holds up bytes when it is told to."""

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis.connection import parse_url

READ_BYTES = 1 << 16
PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"


class Proxy(socketserver.ThreadingTCPServer):
    """Redis as `url` has it, on the way to the one of `redis_url`."""

    allow_reuse_address = True

    def __init__(self, redis_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passage)
        to = parse_url(redis_url)
        self.target = to.get("path") or (to.get("host", "127.0.0.1"), to.get("port", 6379))
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/{to.get('db', 0)}"
        #: How many requests reached Redis whose answers the client was not given, in all.
        self.dropped = 0
        self._to_drop, self._containing = 0, b""
        self._lock = threading.Lock()
        self.flowing, self._closing = threading.Event(), threading.Event()
        self.flowing.set()
        self._ends: set[socket.socket] = set()

    def drop_replies(self, count: int, containing: bytes = b"") -> None:
        """Of the next `count` requests with these bytes, close the connection once Redis has done what they say.

        Of a pipeline, the answers to the requests before it may get lost as well, and those after it are not done.
        """
        with self._lock:
            self._to_drop, self._containing = count, containing

    def freeze(self) -> None:
        """Take what comes, and pass nothing on in either direction; connections stay."""
        self.flowing.clear()

    def thaw(self) -> None:
        """Pass on what was held up, and all that follows."""
        self.flowing.set()

    def is_to_drop(self, request: bytes) -> bool:
        """Whether the answer to this request is to get lost; each that is counts."""
        with self._lock:
            if self._to_drop == 0 or self._containing not in request:
                return False
            self._to_drop -= 1
            self.dropped += 1
            return True

    def add(self, end: socket.socket) -> None:
        """Close this one, too, when the proxy ends."""
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
        """A Redis that is away refuses the connection: so does the proxy, without a word."""


class _Passage(socketserver.BaseRequestHandler):
    """One connection: requests are looked at one by one, answers pass as they come."""

    server: Proxy
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        family = socket.AF_UNIX if isinstance(self.server.target, str) else socket.AF_INET
        with socket.socket(family) as far:
            far.connect(self.server.target)
            self.is_doomed, self.done = threading.Event(), threading.Event()
            for end in (self.request, far):
                self.server.add(end)
            back = threading.Thread(target=self._answer, args=(far,))
            back.start()
            try:
                self._ask(far)
            finally:
                _shut(self.request)
                _shut(far)
                back.join()
                for end in (self.request, far):
                    self.server.forget(end)

    def _ask(self, far: socket.socket) -> None:
        came = bytearray()
        with suppress(OSError):
            while data := self.request.recv(READ_BYTES):
                came += data
                while size := whole(came):
                    request = bytes(came[:size])
                    del came[:size]
                    self.server.flowing.wait()
                    if self.server.is_to_drop(request):
                        self.is_doomed.set()
                        # Redis answers in order: it answers this one when it has done the request.
                        far.sendall(request + PING)
                        self.done.wait()
                        return
                    far.sendall(request)

    def _answer(self, far: socket.socket) -> None:
        last = b""
        with suppress(OSError):
            while data := far.recv(READ_BYTES):
                self.server.flowing.wait()
                if self.is_doomed.is_set():
                    last = (last + data)[-len(PONG) :]
                    if last == PONG:
                        break
                else:
                    self.request.sendall(data)
        self.done.set()
        _shut(self.request)


def whole(came: bytearray) -> int:
    """How many bytes the first request in `came` has (`*2\\r\\n$3\\r\\nGET\\r\\n…`); 0: not all of it is there yet."""
    at = came.find(b"\r\n") + 2
    if at < 2:
        return 0
    if came[:1] != b"*":
        return at
    for _ in range(int(came[1 : at - 2])):
        line = came.find(b"\r\n", at)
        if line < 0:
            return 0
        at = line + 2 + int(came[at + 1 : line]) + 2
        if at > len(came):
            return 0
    return at


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(redis_url: str) -> Iterator[Proxy]:
    """A proxy to the Redis of this URL; when the block ends, so have its connections and threads."""
    with Proxy(redis_url) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            made.end()
            thread.join()

"""HTTP server with scripted responses, for tests of webhooks."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

PATH = "/services/T000/B000/s3cr3t"

#: Function that responds to one request on its connection. The server closes the connection afterwards.
Behaviour = Callable[[socket.socket], None]


class Received(NamedTuple):
    """Received request. Header lines are in lower case."""

    line: str
    headers: str
    body: bytes

    def json(self) -> dict[str, object]:
        return msgspec.json.decode(self.body, type=dict[str, object])


class Server(socketserver.ThreadingTCPServer):
    """HTTP server with one thread for each connection.

    For each request, the server calls `record` and then `behaviour`, which responds; a test may replace both at any
    time. By default, `record` appends the request to `received`. `stopping` is set when the server stops.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.url = f"http://127.0.0.1:{self.server_address[1]}{PATH}"
        self.behaviour = behaviour
        self.received: list[Received] = []
        self.record: Callable[[Received], None] = self.received.append
        self.stopping = threading.Event()

    def hang(self, _connection: socket.socket) -> None:
        """Send nothing until the server stops."""
        self.stopping.wait()

    def drip(self, connection: socket.socket) -> None:
        """Send an endless response, one byte every 20 ms."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        while not self.stopping.wait(0.02):
            connection.sendall(b"x")

    def delayed(self, seconds: float, behaviour: Behaviour) -> Behaviour:
        """Return a behaviour that waits for `seconds` and then calls `behaviour`."""

        def behave(connection: socket.socket) -> None:
            self.stopping.wait(seconds)
            behaviour(connection)

        return behave


class _Connection(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        line = self.rfile.readline().decode().strip()
        headers, length = "", 0
        while (header := self.rfile.readline().decode().strip()) != "":
            headers += header.lower() + "\n"
            if header.lower().startswith("content-length:"):
                length = int(header.partition(":")[2])
        self.server.record(Received(line, headers, self.rfile.read(length)))
        with contextlib.suppress(OSError):
            self.server.behaviour(self.connection)


def answer(status: int, body: str = "", **headers: str) -> Behaviour:
    """Return a behaviour that sends a complete response; `_` in the name of a header becomes `-`."""
    content = body.encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(content)}\r\nConnection: close\r\n{lines}\r\n"
    return raw(head.encode() + content)


def raw(sent: bytes) -> Behaviour:
    """Return a behaviour that sends exactly these bytes; `b""` closes the connection without a response."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(sent)

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Return a behaviour that uses each of these behaviours for one request, and the last for all further requests."""
    remaining = list(behaviours)

    def behave(connection: socket.socket) -> None:
        (remaining.pop(0) if len(remaining) > 1 else remaining[0])(connection)

    return behave


OK = answer(200, "ok")


@contextlib.contextmanager
def running(behaviour: Behaviour = OK) -> Iterator[Server]:
    """Run a server on a free port of 127.0.0.1. By default, the server responds as Slack does to a valid message."""
    with Server(behaviour) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()

"""A real HTTP server, in the place of a channel's, that behaves as badly as it is told to."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

PATH = "/services/T000/B000/s3cr3t"


class Received(NamedTuple):
    """A request, as it came in."""

    line: str
    headers: str
    body: bytes

    def json(self) -> dict[str, object]:
        return msgspec.json.decode(self.body, type=dict[str, object])


class Server(socketserver.ThreadingTCPServer):
    """`behaviour` is what it does once it has read a request; `stopping` is set when it must give that up."""

    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.url = f"http://127.0.0.1:{self.server_address[1]}{PATH}"
        self.received: list[Received] = []
        self.behaviour: Callable[[socket.socket], None] = answer(200, "ok")
        self.stopping = threading.Event()

    def drip(self, connection: socket.socket) -> None:
        """Begin an answer, and go on with a byte now and then."""
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        while not self.stopping.wait(0.02):
            connection.sendall(b"x")

    def say_nothing(self, _connection: socket.socket) -> None:
        self.stopping.wait()


class _Request(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        line = self.rfile.readline().decode().strip()
        headers, length = "", 0
        while (header := self.rfile.readline().decode().strip()) != "":
            headers += header.lower() + "\n"
            if header.lower().startswith("content-length:"):
                length = int(header.partition(":")[2])
        self.server.received.append(Received(line, headers, self.rfile.read(length)))
        with contextlib.suppress(OSError):
            self.server.behaviour(self.connection)


def answer(status: int, body: str = "", **headers: str) -> Callable[[socket.socket], None]:
    """An ordinary answer; header names are written with `_`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return raw(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{lines}\r\n{body}".encode())


def raw(sent: bytes) -> Callable[[socket.socket], None]:
    """Send just these bytes, and close."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(sent)

    return behave


@contextlib.contextmanager
def running() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()

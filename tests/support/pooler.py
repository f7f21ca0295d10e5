"""Proxy for PostgreSQL that rejects or ignores the startup parameter `options`, as PgBouncer does."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

REJECTION = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"


@contextmanager
def pooler(database_url: str, *, rejects: bool) -> Iterator[str]:
    """Run the proxy for the PostgreSQL at `database_url` during the block; yield the URL of the proxy.

    `database_url` must contain the folder of the socket. If `rejects` is true, the proxy responds
    to `options` with an error; otherwise it removes `options`.
    """
    sockets = parse_qs(urlsplit(database_url).query)["host"][0]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, f"{sockets}/.s.PGSQL.5432", rejects), daemon=True)
        thread.start()
        host, port = listener.getsockname()
        yield f"postgresql://postgres@{host}:{port}/postgres?sslmode=disable&gssencmode=disable"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def _serve(listener: socket.socket, server_path: str, rejects: bool) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_connect, args=(client, server_path, rejects), daemon=True).start()


def _connect(client: socket.socket, server_path: str, rejects: bool) -> None:
    with client, socket.socket(socket.AF_UNIX) as server:
        (length,) = struct.unpack("!I", client.recv(4, socket.MSG_WAITALL))
        startup = client.recv(length - 4, socket.MSG_WAITALL)
        if rejects and b"\0options\0" in startup:
            client.sendall(b"E" + struct.pack("!I", len(REJECTION) + 4) + REJECTION)
            return
        server.connect(server_path)
        kept = _without_options(startup)
        server.sendall(struct.pack("!I", len(kept) + 4) + kept)
        answers = threading.Thread(target=_copy, args=(server, client), daemon=True)
        answers.start()
        _copy(client, server)
        answers.join()


def _without_options(startup: bytes) -> bytes:
    """Return a startup message without `options`. The message is the version, then pairs of a name and a value."""
    words = startup[4:].rstrip(b"\0").split(b"\0")
    pairs = [(name, value) for name, value in zip(words[::2], words[1::2], strict=True) if name != b"options"]
    return startup[:4] + b"".join(name + b"\0" + value + b"\0" for name, value in pairs) + b"\0"


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

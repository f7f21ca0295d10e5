"""Tests of chunked, truncated, endless and slow request bodies over real connections."""

import socket
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.api_server import Server
from support.http_events import Queued, event, lines

BATCH = "/api/v1/events/batch"
HEAD = b"POST /api/v1/events/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
MIB = 1024 * 1024


@pytest.fixture
def connection(server: Server) -> Iterator[HTTPConnection]:
    made = HTTPConnection("127.0.0.1", server.port, timeout=30)
    yield made
    made.close()


def post(connection: HTTPConnection, body: bytes | Iterable[bytes], **headers: str) -> tuple[int, Any]:
    sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    # The server closes the connection while the client sends a body that is too large; the response can still be read.
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", BATCH, body, sent)
    response = connection.getresponse()
    return response.status, msgspec.json.decode(response.read())


def answer(connection: socket.socket) -> tuple[int, Any]:
    response = HTTPResponse(connection)
    response.begin()
    return response.status, msgspec.json.decode(response.read())


def gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    gzip = zlib.compressobj(wbits=31)
    for piece in pieces:
        yield gzip.compress(piece)
    yield gzip.flush()


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory of a process in bytes; skip the test on systems other than Linux."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("the peak memory of a process is known only on Linux")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def test_one_connection_serves_valid_and_invalid_requests_in_turn(connection: HTTPConnection, queued: Queued) -> None:
    good = msgspec.json.encode([event()])
    statuses = []
    for body in (good, b"[", good, b"", good):
        statuses.append(post(connection, body)[0])
        opened = connection.sock
    assert statuses == [202, 400, 202, 400, 202]
    assert connection.sock is opened
    assert len(queued()) == 3


def test_a_chunked_body_is_accepted(connection: HTTPConnection, queued: Queued) -> None:
    chunks = [b"[", lines(event(n=1)), b",", lines(event(n=2)), b"]"]

    assert post(connection, iter(chunks))[0] == 202
    assert [each["payload"]["n"] for each in queued()] == [1, 2]


def test_a_chunked_gzip_body_is_accepted(connection: HTTPConnection, queued: Queued) -> None:
    chunks = gzipped([b"[", lines(event(n=1)), b"]"])

    assert post(connection, (chunk for chunk in chunks if chunk), Content_Encoding="gzip")[0] == 202
    assert len(queued()) == 1


def test_a_declared_length_above_the_limit_is_rejected_before_the_body(server: Server, queued: Queued) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 10737418240\r\n\r\n")
        status, problem = answer(connection)

        assert (status, problem["errors"][0]["field"]) == (413, "body")
        assert connection.recv(1) == b"", "the server did not close the connection"


def test_an_endless_chunked_body_is_rejected_at_the_limit(connection: HTTPConnection, queued: Queued) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 1024 * MIB:
            sent += MIB
            yield b" " * MIB

    status, problem = post(connection, endless())

    assert (status, problem["errors"][0]["field"]) == (413, "body")
    # The client fills the socket buffers, which are smaller than 64 MiB, before it detects the closed connection.
    assert sent < 64 * MIB
    assert queued() == []


@pytest.mark.parametrize("chunked", [False, True])
def test_a_gzip_bomb_of_one_gibibyte_uses_little_memory(
    server: Server, connection: HTTPConnection, queued: Queued, chunked: bool
) -> None:
    assert post(connection, msgspec.json.encode([event()] * 1_000))[0] == 202
    before = peak_bytes(server.worker.pid)
    bomb = (piece for piece in gzipped(b" " * MIB for _ in range(1024)) if piece)

    status, problem = post(connection, bomb if chunked else b"".join(bomb), Content_Encoding="gzip")

    assert (status, problem["errors"][0]["field"]) == (413, "body")
    assert peak_bytes(server.worker.pid) - before < 24 * MIB
    assert len(queued()) == 1_000


LINE = lines(event()) + b"\n"
CUT = {
    "by length": b"Content-Length: 10000\r\n\r\n" + LINE,
    "before a chunk": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(LINE), LINE),
    "within a chunk": b"Transfer-Encoding: chunked\r\n\r\n10000\r\n" + LINE,
    "no such chunk": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n" + LINE,
}


@pytest.mark.parametrize("rest", CUT.values(), ids=CUT)
def test_a_truncated_body_queues_nothing(server: Server, queued: Queued, rest: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + rest)
        connection.shutdown(socket.SHUT_WR)
        status, problem = answer(connection)

    assert (status, problem["errors"][0]["field"]) == (400, "body")
    assert queued() == []


def test_clients_that_stop_sending_get_408_and_delay_no_other_client(server: Server) -> None:
    silent = [server.connect() for _ in range(50)]
    for each in silent:
        each.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
    other = HTTPConnection("127.0.0.1", server.port, timeout=20)
    other.request("GET", "/livez")
    assert other.getresponse().status == 200
    other.close()
    silent[0].settimeout(20)
    assert answer(silent[0])[0] == 408
    for each in silent:
        each.close()


def test_a_body_of_empty_gzip_members_is_rejected_at_the_limit(connection: HTTPConnection, queued: Queued) -> None:
    empty = b"".join(gzipped([b""])) * 1_000
    status, problem = post(connection, (empty for _ in range(1_000)), Content_Encoding="gzip")
    assert (status, problem["errors"][0]["field"]) == (413, "body")
    assert queued() == []

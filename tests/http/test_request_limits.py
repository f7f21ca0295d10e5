"""Tests of the limits of connections and of bodies in flight, over real connections."""

import gzip
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import msgspec
import pytest
from support.api_server import UNREACHABLE_POSTGRES, Server, serve
from support.http_events import event
from support.waiting import until

MIB = 1024 * 1024
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
BATCH = b"POST /api/v1/events/batch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
EVENT = msgspec.json.encode(event())


@pytest.fixture(scope="module")
def limited(redis_url: str) -> Iterator[Server]:
    """Return an API that allows three connections for each address, and bodies of 1 MiB in total."""
    limits = {
        "EVENTPULSE_MAX_CONNECTIONS_PER_ADDRESS": "3",
        "EVENTPULSE_MAX_BODY_BYTES": str(MIB),
        "EVENTPULSE_MAX_BODY_BYTES_IN_FLIGHT": str(MIB),
    }
    with serve(REDIS_URL=redis_url, DATABASE_URL=UNREACHABLE_POSTGRES, **limits) as server:
        yield server


def status(connection: socket.socket, request: bytes = b"") -> int:
    connection.sendall(request)
    response = HTTPResponse(connection)
    response.begin()
    response.read()
    return response.status


def accepts(server: Server, body: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", "/api/v1/events/batch", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status != 503 or int(response.getheader("Retry-After") or 0) >= 1
    response.read()
    connection.close()
    return response.status


def test_the_oldest_idle_connection_of_an_address_is_closed_for_a_new_one(limited: Server) -> None:
    opened = [limited.connect() for _ in range(3)]
    assert [status(each, LIVEZ) for each in opened] == [200] * 3
    assert status(opened[0], LIVEZ) == 200  # the second connection is now the oldest idle one
    with limited.connect() as new:
        assert status(new, LIVEZ) == 200
        assert opened[1].recv(1) == b""
        assert [status(opened[number], LIVEZ) for number in (0, 2)] == [200, 200]
    for each in opened:
        each.close()


def test_a_connection_beyond_the_busy_ones_of_its_address_gets_503(limited: Server) -> None:
    busy = [limited.connect() for _ in range(3)]
    for each in busy:
        each.sendall(BATCH + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n")
        assert each.recv(100).startswith(b"HTTP/1.1 100 ")
    with limited.connect() as new:
        assert status(new, LIVEZ) == 503
        assert new.recv(1) == b""
    for each in busy:
        each.close()
    with limited.connect() as new:
        assert status(new, LIVEZ) == 200


def test_bodies_beyond_the_byte_budget_get_503_before_they_are_read(limited: Server) -> None:
    large = b"[" + b" " * (MIB // 2) + EVENT + b"]"
    with limited.connect() as holding:
        holding.sendall(BATCH + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % MIB)
        assert holding.recv(100).startswith(b"HTTP/1.1 100 ")
        until(lambda: accepts(limited, large) == 503)
        with limited.connect() as unread:
            assert status(unread, BATCH + b"Content-Length: %d\r\n\r\n" % len(large)) == 503
        assert accepts(limited, b"[" + EVENT + b"]") == 202, "a small body was rejected"
    until(lambda: accepts(limited, large) == 202)


def test_a_chunked_body_gets_503_when_it_grows_beyond_the_byte_budget(limited: Server) -> None:
    with limited.connect() as holding, limited.connect() as growing:
        holding.sendall(BATCH + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % MIB)
        assert holding.recv(100).startswith(b"HTTP/1.1 100 ")
        until(lambda: accepts(limited, b"[" + b" " * (MIB // 2) + EVENT + b"]") == 503)
        growing.sendall(BATCH + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (MIB // 2, b" " * (MIB // 2)))
        assert status(growing) == 503


def test_a_small_body_with_very_many_gzip_members_is_rejected(server: Server) -> None:
    body = gzip.compress(b"") * 1_001 + gzip.compress(b"[" + EVENT + b"]")
    headers = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    with server.connect() as connection:
        assert status(connection, BATCH + headers + body) == 413


def test_a_body_with_too_many_values_is_rejected_before_its_end(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(BATCH + b"Content-Length: %d\r\n\r\n" % (5 * MIB) + b"[" + b"[]," * (2 * MIB // 3))
        assert status(connection) == 413


def test_headers_that_do_not_arrive_within_ten_seconds_close_the_connection(server: Server) -> None:
    started = time.monotonic()
    silent, partial, reused = opened = [server.connect() for _ in range(3)]
    assert status(reused, LIVEZ) == 200
    for each in (partial, reused):
        each.sendall(LIVEZ[:20])
    for each in opened:
        each.settimeout(20)
        assert each.recv(1) == b""
        assert 8 < time.monotonic() - started < 15
        each.close()
    assert silent.fileno() == -1


def test_many_idle_connections_do_not_stop_the_api(server: Server) -> None:
    opened = [server.connect() for _ in range(1_100)]
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", "/livez")
    assert connection.getresponse().status == 200
    connection.close()
    for each in opened:
        each.close()

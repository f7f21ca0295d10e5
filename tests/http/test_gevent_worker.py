"""Tests of the API in gunicorn: waiting requests, shutdown, pipelining, and test notifications."""

import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import msgspec
import psycopg2
import pytest
from support import fake_http_server
from support.api_server import Server, serve
from support.waiting import until

EVENT = b'{"event_type":"order","source":"shop","timestamp":"2026-11-20T12:00:00Z"}'


@pytest.fixture
def api(redis_url: str, empty_database: str) -> Iterator[Server]:
    with serve(REDIS_URL=redis_url, DATABASE_URL=empty_database) as served:
        yield served


def status_of(server: Server, method: str, path: str, body: bytes = b"") -> int:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request(method, f"/api/v1{path}", body or None, {"Content-Type": "application/json"} if body else {})
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_blocked_query_delays_no_other_request(api: Server, empty_database: str) -> None:
    """While a query for rules waits for a lock, the same process accepts events and runs other queries."""
    answers: list[int] = []
    with psycopg2.connect(empty_database) as locker, locker.cursor() as cursor:
        cursor.execute("LOCK TABLE rules IN ACCESS EXCLUSIVE MODE")
        reader = threading.Thread(target=lambda: answers.append(status_of(api, "GET", "/rules")))
        reader.start()
        while not _waits_for_a_lock(empty_database):
            pass
        assert {status_of(api, "POST", "/events", EVENT) for _ in range(100)} == {202}
        assert [status_of(api, "GET", path) for path in ("/events", "/channels", "/anomalies")] == [200] * 3
        assert answers == []
    locker.close()
    reader.join(20)
    assert answers == [200]


def _waits_for_a_lock(url: str) -> bool:
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        (waiting,) = cursor.fetchone() or (0,)
    connection.close()
    return bool(waiting)


def test_a_postgresql_that_never_answers_times_out_within_seconds(redis_url: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        serve(REDIS_URL=redis_url, DATABASE_URL=f"postgresql://x@127.0.0.1:{mute.getsockname()[1]}/x") as server,
    ):
        started = time.monotonic()
        answers: list[int] = []
        readers = [
            threading.Thread(target=lambda: answers.append(status_of(server, "GET", "/rules"))) for _ in range(5)
        ]
        for reader in readers:
            reader.start()
        assert status_of(server, "POST", "/events", EVENT) == 202
        assert time.monotonic() - started < 4, "ingest waited for PostgreSQL"
        for reader in readers:
            reader.join(20)
        assert answers == [503] * 5
        assert 4 < time.monotonic() - started < 10, "the queries waited one after the other"


def test_shutdown_does_not_wait_for_idle_connections(redis_url: str, empty_database: str) -> None:
    with serve(REDIS_URL=redis_url, DATABASE_URL=empty_database) as server:
        idle = HTTPConnection("127.0.0.1", server.port, timeout=20)
        idle.request("GET", "/livez")
        assert idle.getresponse().read()
        untouched = server.connect()
        started = time.monotonic()
        server.process.terminate()
        assert idle.sock.recv(100) == b"", "an unexpected response"
        # The signal handler must close idle connections, because gunicorn checks only once a second for a stop.
        assert time.monotonic() - started < 0.8
        untouched.close()
        idle.close()


def test_a_connection_that_becomes_idle_during_shutdown_is_closed(redis_url: str, empty_database: str) -> None:
    head = b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    with (
        serve(REDIS_URL=redis_url, DATABASE_URL=empty_database) as server,
        server.connect() as idle,
        server.connect() as busy,
    ):
        busy.sendall(head + b"Content-Length: %d\r\n\r\n" % len(EVENT))
        assert busy.recv(100).startswith(b"HTTP/1.1 100 ")
        server.process.terminate()
        assert idle.recv(100) == b"", "the worker did not start to shut down"
        busy.sendall(EVENT)
        started = time.monotonic()
        answer = b"".join(iter(lambda: busy.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 202 ")
        assert time.monotonic() - started < 0.8, "the connection stayed open until the end of the grace period"


def test_pipelined_requests_are_answered_in_order(api: Server) -> None:
    """The server must skip the unread body of a rejected request; otherwise the body is parsed as the next request."""
    rejected = b"POST /api/v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    alive = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with api.connect() as connection:
        connection.sendall(rejected + alive)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    first, second = answer.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"415 ")
    assert second.startswith(b"200 ")


@pytest.fixture
def webhook() -> Iterator[fake_http_server.Server]:
    with fake_http_server.running() as server:
        yield server


def add_channel(server: Server, webhook: fake_http_server.Server, name: str = "ops") -> str:
    """Create a Slack channel with this webhook, and return the path for a test notification to the channel."""
    channel = {"name": name, "kind": "slack", "settings": {"webhook_url": webhook.url}}
    status, created = post(server, "/channels", channel)
    assert status == 201
    return f"/channels/{created['channel_id']}/test"


def post(server: Server, path: str, body: Any = None) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", f"/api/v1{path}", msgspec.json.encode(body) if body else None, headers)
    answer = connection.getresponse()
    found = answer.status, msgspec.json.decode(answer.read())
    connection.close()
    return found


def test_channel_tests_are_delivered_repeatedly(api: Server, webhook: fake_http_server.Server) -> None:
    """The HTTP notifiers use an asyncio loop, which must work more than once in a process that gevent has patched."""
    path = add_channel(api, webhook)
    for _ in range(3):
        status, answer = post(api, path)
        assert (status, answer["status"]) == (200, "delivered"), answer
    assert [request.json()["attachments"] is not None for request in webhook.received] == [True] * 3


def test_channel_tests_that_wait_delay_no_other_request(api: Server, webhook: fake_http_server.Server) -> None:
    released = threading.Event()

    def answer_when_released(connection: socket.socket) -> None:
        released.wait(20)
        fake_http_server.OK(connection)

    webhook.behaviour = answer_when_released
    paths = [add_channel(api, webhook, name) for name in ("first", "second")]
    answers: list[tuple[int, Any]] = []
    testers = [threading.Thread(target=lambda path=path: answers.append(post(api, path))) for path in paths]
    for tester in testers:
        tester.start()
    until(lambda: len(webhook.received) == 2)
    started = time.monotonic()
    assert {status_of(api, "POST", "/events", EVENT) for _ in range(20)} == {202}
    assert post(api, paths[0])[0] == 409, "two tests of a channel ran at the same time"
    assert time.monotonic() - started < 4
    assert answers == []
    released.set()
    for tester in testers:
        tester.join(20)
    assert [status for status, _ in answers] == [200, 200]

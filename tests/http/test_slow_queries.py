"""Tests of slow queries: limits of reads and changes, the statement timeout, and clients that disconnect.

A table lock, which another session holds, makes queries slow.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import msgspec
import psutil
import psycopg2
import pytest
from support import clusters
from support.api_server import Server, serve
from support.http_rules import RULE
from support.waiting import until

from api.middleware import CHANGE_CONNECTIONS, READ_CONNECTIONS
from models import database, migrations

EVENT = b'{"event_type":"order","source":"shop","timestamp":"2026-11-20T12:00:00Z"}'
SLOW_READ = b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n"
RULES = "/api/v1/rules"
#: Limit of a prompt response, with a margin for other load on the machine.
PROMPT_SECONDS = 3


@pytest.fixture(scope="module")
def api(redis_url: str, database_url: str) -> Iterator[Server]:
    """Run an API for all tests of this file, because each start takes a second of CPU time."""
    with serve(REDIS_URL=redis_url, DATABASE_URL=database_url) as served:
        yield served


@contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Lock a table during the block, so that every query of the table waits."""
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
    connection.close()


def running(url: str) -> int:
    """Return the number of queries of the API that wait for a lock."""
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'eventpulse-api' AND state = 'active'"
            " AND wait_event_type = 'Lock'"
        )
        (count,) = cursor.fetchone() or (0,)
    connection.close()
    return int(count)


def request(server: Server, method: str, path: str, body: Any = None) -> tuple[HTTPResponse, Any]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, msgspec.json.decode(content) if content else None


def status_of(server: Server, method: str, path: str, body: Any = None) -> int:
    return request(server, method, path, body)[0].status


def creation(name: str) -> bytes:
    """Return a request that creates a rule."""
    body = msgspec.json.encode(RULE | {"name": name})
    head = "POST /api/v1/rules HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def timed(call: Callable[[], int]) -> tuple[int, float]:
    """Return the result of a call, and its duration in seconds."""
    started = time.monotonic()
    return call(), time.monotonic() - started


def connect_all(server: Server, stack: ExitStack, count: int, sent: bytes = SLOW_READ) -> list[socket.socket]:
    """Open connections, send the same bytes on each of them, and close them at the end of the stack."""
    clients = [stack.enter_context(server.connect()) for _ in range(count)]
    for client in clients:
        client.sendall(sent)
    return clients


def test_slow_reads_do_not_delay_changes_ingest_and_health(api: Server, empty_database: str) -> None:
    with locked(empty_database, "events"), ExitStack() as stack:
        connect_all(api, stack, 60)
        until(lambda: running(empty_database) == READ_CONNECTIONS)
        response, created = request(api, "POST", RULES, RULE)
        assert response.status == 201
        change = {"severity": "info"}
        path = f"{RULES}/{created['rule_id']}"
        answers = [timed(lambda: status_of(api, "PATCH", path, change)) for _ in range(5)]
        answers += [timed(lambda: status_of(api, "POST", "/api/v1/events", msgspec.json.decode(EVENT)))]
        answers += [timed(lambda: status_of(api, "GET", "/api/v1/events/health"))]
        assert [status for status, _ in answers] == [200] * 5 + [202, 200]
        assert max(seconds for _, seconds in answers) < PROMPT_SECONDS, answers


def test_a_read_that_gets_no_connection_is_rejected_after_a_second(api: Server, empty_database: str) -> None:
    with locked(empty_database, "events"), ExitStack() as stack:
        connect_all(api, stack, READ_CONNECTIONS)
        until(lambda: running(empty_database) == READ_CONNECTIONS)
        started = time.monotonic()
        response, problem = request(api, "GET", "/api/v1/events")
        assert 0.9 < time.monotonic() - started < 2.5
        assert (response.status, problem["detail"]) == (503, "Too many requests are waiting for PostgreSQL")
        assert int(response.headers["Retry-After"]) >= 1


def test_slow_changes_do_not_delay_reads(api: Server, empty_database: str) -> None:
    with locked(empty_database, "rules"), ExitStack() as stack:
        connect_all(api, stack, 20, creation("slow"))
        until(lambda: running(empty_database) == CHANGE_CONNECTIONS)
        status, seconds = timed(lambda: status_of(api, "GET", "/api/v1/channels"))
        assert status == 200
        assert seconds < PROMPT_SECONDS


def test_clients_that_send_a_body_slowly_use_no_connection(api: Server) -> None:
    head = b"POST /api/v1/rules HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with ExitStack() as stack:
        connect_all(api, stack, 3 * CHANGE_CONNECTIONS, head)
        assert status_of(api, "GET", "/livez") == 200, "the server did not read the other requests"
        status, seconds = timed(lambda: status_of(api, "POST", RULES, RULE))
        assert status == 201
        assert seconds < PROMPT_SECONDS


def test_a_read_that_takes_longer_than_five_seconds_is_rejected(api: Server, empty_database: str) -> None:
    with locked(empty_database, "events"):
        started = time.monotonic()
        response, problem = request(api, "GET", "/api/v1/events")
        assert 4.5 < time.monotonic() - started < 15
    assert (response.status, problem["type"]) == (503, "/problems/service-unavailable")
    assert problem["detail"] == "PostgreSQL did not finish in time; use narrower filters"
    assert int(response.headers["Retry-After"]) >= 15


def test_the_queries_of_clients_that_disconnect_are_cancelled(api: Server, empty_database: str) -> None:
    with locked(empty_database, "events"), ExitStack() as stack:
        clients = connect_all(api, stack, READ_CONNECTIONS)
        until(lambda: running(empty_database) == READ_CONNECTIONS)
        for client in clients:
            client.close()
        until(lambda: running(empty_database) == 0, 3)
        # The connections remain usable: all of them serve other reads.
        assert [status_of(api, "GET", RULES) for _ in range(3 * READ_CONNECTIONS)] == [200] * 3 * READ_CONNECTIONS


def test_a_client_that_closes_its_sending_side_counts_as_disconnected(api: Server, empty_database: str) -> None:
    with locked(empty_database, "events"), api.connect() as client:
        client.sendall(SLOW_READ)
        until(lambda: running(empty_database) == 1)
        client.shutdown(socket.SHUT_WR)
        until(lambda: running(empty_database) == 0, 3)
        assert client.recv(100).startswith(b"HTTP/1.1 499 Client Closed Request\r\n")


def disconnect_during_a_read(server: Server, url: str) -> None:
    """Start a slow read and disconnect; return when its query was cancelled, so that all clients were checked."""
    others = running(url)
    with server.connect() as client:
        client.sendall(SLOW_READ)
        until(lambda: running(url) == others + 1)
    until(lambda: running(url) <= others, 3)


def test_a_pipelined_request_is_no_disconnection_and_is_answered(api: Server, empty_database: str) -> None:
    alive = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with api.connect() as client:
        with locked(empty_database, "events"):
            client.sendall(SLOW_READ)
            until(lambda: running(empty_database) == 1)
            client.sendall(alive)
            disconnect_during_a_read(api, empty_database)
            assert running(empty_database) == 1, "the query was cancelled"
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    first, second = answer.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 ")
    assert second.startswith(b"200 ")


def test_a_client_that_disconnects_after_a_pipelined_request_is_detected(api: Server, empty_database: str) -> None:
    with locked(empty_database, "events"):
        with api.connect() as client:
            client.sendall(SLOW_READ)
            until(lambda: running(empty_database) == 1)
            client.sendall(SLOW_READ)
        until(lambda: running(empty_database) == 0, 3)


def test_a_change_is_completed_after_its_client_has_disconnected(api: Server, empty_database: str) -> None:
    _, created = request(api, "POST", RULES, RULE)
    path = f"{RULES}/{created['rule_id']}"
    with locked(empty_database, "rulebook, events"):
        with api.connect() as client:
            client.sendall(f"DELETE {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            until(lambda: running(empty_database) == 1)
        disconnect_during_a_read(api, empty_database)
        assert running(empty_database) == 1, "the change was cancelled"
    until(lambda: status_of(api, "GET", path) == 404)


def test_a_request_whose_client_disconnects_while_it_waits_is_dropped(api: Server, empty_database: str) -> None:
    with ExitStack() as stack:
        with locked(empty_database, "rules"):
            connect_all(api, stack, CHANGE_CONNECTIONS, creation("executed"))
            until(lambda: running(empty_database) == CHANGE_CONNECTIONS)
            with api.connect() as client:
                client.sendall(creation("abandoned"))
                assert status_of(api, "GET", "/livez") == 200, "the server did not read the other requests"
        until(lambda: len(request(api, "GET", RULES)[1]["data"]) == CHANGE_CONNECTIONS)
        until(lambda: status_of(api, "POST", RULES, RULE | {"name": "next"}) == 201)
    names = {rule["name"] for rule in request(api, "GET", RULES)[1]["data"]}
    assert names == {"executed", "next"}


@pytest.mark.parametrize("sent", [b"GET /api/v1/rules HTTP/1.1\r\nHost: x\r\n\r\n", creation("half-closed")])
def test_a_client_that_closes_its_sending_side_gets_a_fast_response(api: Server, sent: bytes) -> None:
    with api.connect() as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100).startswith(b"HTTP/1.1 20")


def test_a_cancellation_that_gets_no_answer_stops_no_other_request(redis_url: str, tmp_path: Path) -> None:
    """PostgreSQL stops while queries run, and their clients disconnect."""
    server = clusters.start_postgres(tmp_path / "postgres" / "data")
    try:
        database.configure(server.url, name="tests")
        migrations.up()
        database.database.close_all()
        with serve(REDIS_URL=redis_url, DATABASE_URL=server.url) as api, locked(server.url, "events"):
            _disconnect_while_suspended(api, server.url, psutil.Process(server.pid))
            until(lambda: running(server.url) == 0, 5)
    finally:
        server.stop()


def _disconnect_while_suspended(api: Server, url: str, postgres: psutil.Process) -> None:
    with ExitStack() as stack:
        clients = connect_all(api, stack, READ_CONNECTIONS)
        until(lambda: running(url) == READ_CONNECTIONS)
        processes = [postgres, *postgres.children()]
        for process in processes:
            process.suspend()
        try:
            for client in clients:
                client.close()
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                status, seconds = timed(lambda: status_of(api, "POST", "/api/v1/events", msgspec.json.decode(EVENT)))
                assert status == 202
                assert seconds < PROMPT_SECONDS
        finally:
            for process in processes:
                process.resume()

"""Tests of the HTTP client of the notifiers: the exception for each failure of a server."""

import logging
import socket
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from support import fake_http_server
from support.fake_http_server import OK, Server, answer, in_turn, raw

from notifiers.base import TryAgain, Undeliverable
from notifiers.http import MAX_RESPONSE_BYTES, HttpClient, retry_after_seconds

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[Server]:
    with fake_http_server.running() as server:
        yield server


@pytest.fixture(scope="module")
def http() -> HttpClient:
    return HttpClient()


@pytest.fixture(scope="module")
def impatient_http() -> HttpClient:
    return HttpClient(total_seconds=0.3)


def test_the_message_arrives_as_json(server: Server, http: HttpClient) -> None:
    assert http.post(server.url, {"text": "žluť"}).text == "ok"
    (received,) = server.received
    assert received.line == f"POST {fake_http_server.PATH} HTTP/1.1"
    assert "content-type: application/json\n" in received.headers
    assert received.json() == {"text": "žluť"}


def test_many_threads_post_at_the_same_time(server: Server, http: HttpClient) -> None:
    server.behaviour = server.delayed(0.2, OK)
    started = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(lambda _: http.post(server.url, {}), range(20)))
    assert [response.text for response in responses] == ["ok"] * 20
    assert time.monotonic() - started < 2


def test_a_client_works_again_after_a_failure(server: Server, http: HttpClient) -> None:
    server.behaviour = in_turn(raw(b""), OK)
    with pytest.raises(TryAgain):
        http.post(server.url, {})
    assert http.post(server.url, {}).text == "ok"


def test_retry_after_in_seconds_is_reported(server: Server, http: HttpClient) -> None:
    server.behaviour = answer(429, "rate_limited", Retry_After="7")
    with pytest.raises(TryAgain, match=r"status 429 \(rate_limited\)$") as caught:
        http.post(server.url, {})
    assert caught.value.after_seconds == 7


def test_retry_after_as_a_date_is_reported(server: Server, http: HttpClient) -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    server.behaviour = answer(503, Retry_After=format_datetime(later, usegmt=True))
    with pytest.raises(TryAgain) as caught:
        http.post(server.url, {})
    assert caught.value.after_seconds == pytest.approx(90, abs=5)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_temporary_status_can_be_retried(server: Server, http: HttpClient, status: int) -> None:
    server.behaviour = answer(status, "<html>sorry</html>")
    with pytest.raises(TryAgain, match=f"^the server of the channel responded with status {status}$") as caught:
        http.post(server.url, {})
    assert caught.value.after_seconds is None


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, "invalid_payload", "400 (invalid_payload)"),
        (403, "action_prohibited\n", "403 (action_prohibited)"),
        (404, "no_service", "404 (no_service)"),
        (404, f"nothing at {fake_http_server.PATH}", "404"),
        (410, "channel_is_archived", "410 (channel_is_archived)"),
        (418, "", "418"),
    ],
)
def test_a_permanent_status_is_undeliverable(
    server: Server, http: HttpClient, status: int, body: str, reason: str
) -> None:
    server.behaviour = answer(status, body, Retry_After="1")
    with pytest.raises(Undeliverable) as caught:
        http.post(server.url, {})
    assert caught.value.reason == f"the server of the channel responded with status {reason}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server: Server, http: HttpClient, status: int) -> None:
    server.behaviour = answer(status, Location=server.url)
    with pytest.raises(Undeliverable, match=str(status)):
        http.post(server.url, {})
    assert len(server.received) == 1


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_slow_server_cannot_exceed_the_time_limit(server: Server, impatient_http: HttpClient, how: str) -> None:
    server.behaviour = getattr(server, how)
    started = time.monotonic()
    with pytest.raises(TryAgain, match=r"^no response within 0\.3 s$"):
        impatient_http.post(server.url, {})
    assert time.monotonic() - started < 2


def test_a_slow_body_cannot_exceed_the_time_limit(server: Server, impatient_http: HttpClient) -> None:
    def behaviour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        server.drip(connection)

    server.behaviour = behaviour
    with pytest.raises(TryAgain, match="no response within"):
        impatient_http.post(server.url, {})


def test_only_the_beginning_of_an_endless_body_is_read(server: Server, http: HttpClient) -> None:
    def behaviour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not server.stopping.is_set():
            connection.sendall(b"x" * 10_000)

    server.behaviour = behaviour
    assert http.post(server.url, {}).text == "x" * MAX_RESPONSE_BYTES


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nConte", id="half a head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", id="half a body"),
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", id="another protocol"),
        pytest.param(b"\x00\xff\x00\xff\r\n\r\n", id="noise"),
    ],
)
def test_a_broken_response_can_be_retried(server: Server, http: HttpClient, sent: bytes) -> None:
    server.behaviour = raw(sent)
    with pytest.raises(TryAgain, match=r"^the connection closed before the response was complete$"):
        http.post(server.url, {})


def test_an_unavailable_server_can_be_retried(http: HttpClient) -> None:
    with fake_http_server.running() as server:
        url = server.url
    with pytest.raises(TryAgain, match=r"^cannot connect to the server of the channel$"):
        http.post(url, {})


@pytest.mark.parametrize("url", ["gopher://example.test/", "http://", "http://a:b"])
def test_an_invalid_url_is_undeliverable(http: HttpClient, url: str) -> None:
    with pytest.raises(Undeliverable, match=r"^the URL of the channel is invalid$"):
        http.post(url, {})


def test_no_log_record_and_no_traceback_contains_the_url(
    server: Server, http: HttpClient, impatient_http: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tracebacks = ""
    for client, behaviour in [
        (http, answer(200, "ok")),
        (http, answer(404, fake_http_server.PATH)),
        (http, raw(b"")),
        (http, raw(b"garbage\r\n\r\n")),
        (impatient_http, server.hang),
    ]:
        server.behaviour = behaviour
        try:
            client.post(server.url, {})
        except (TryAgain, Undeliverable) as error:
            tracebacks += repr(error) + "".join(traceback.format_exception(error))
    assert tracebacks
    assert "s3cr3t" not in tracebacks + caplog.text


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 30 ", 30),
        ("999999999", 3600),
        ("9" * 5000, None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("Fri, 20 Nov 2026 03:00:10 GMT", 10),
        ("Fri, 20 Nov 2026 03:00:10 -0000", 10),
        ("Fri, 20 Nov 2026 02:00:00 GMT", 0),
        ("Fri, 20 Nov 9999 02:00:00 GMT", 3600),
        ("Fri, 99 Nov 2026 02:00:00 GMT", None),
    ],
)
def test_retry_after_is_parsed_in_both_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds

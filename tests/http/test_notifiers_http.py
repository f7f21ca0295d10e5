"""Each way in which the server of a channel can misbehave, and what becomes of the notification."""

import logging
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from support import fake_http_server
from support.fake_http_server import Server, answer, raw

from notifiers.base import TryAgain, Undeliverable
from notifiers.http import MAX_ANSWER_BYTES, Http, retry_after_seconds

NOW = datetime(2026, 11, 20, 3, 0, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[Server]:
    with fake_http_server.running() as server:
        yield server


@pytest.fixture(scope="module")
def http() -> Http:
    return Http()


@pytest.fixture(scope="module")
def hasty() -> Http:
    return Http(total_seconds=0.3)


def test_a_good_answer_is_read_and_the_message_arrives_as_json(server: Server, http: Http) -> None:
    assert http.post(server.url, {"text": "žluť"}).text == "ok"
    (received,) = server.received
    assert received.line == f"POST {fake_http_server.PATH} HTTP/1.1"
    assert "content-type: application/json\n" in received.headers
    assert received.json() == {"text": "žluť"}


def test_many_threads_post_at_once(server: Server, http: Http) -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(http.post(server.url, {}).text)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["ok"] * 20


def test_a_channel_that_is_busy_says_when_to_come_back(server: Server, http: Http) -> None:
    server.behaviour = answer(429, "rate_limited", Retry_After="7")
    with pytest.raises(TryAgain, match=r"^the channel answered 429 rate_limited$") as caught:
        http.post(server.url, {})
    assert caught.value.after_seconds == 7


def test_a_channel_may_say_so_by_a_date(server: Server, http: Http) -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    server.behaviour = answer(503, Retry_After=format_datetime(later, usegmt=True))
    with pytest.raises(TryAgain) as caught:
        http.post(server.url, {})
    assert caught.value.after_seconds == pytest.approx(90, abs=5)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(server: Server, http: Http, status: int) -> None:
    server.behaviour = answer(status, "<html>sorry</html>")
    with pytest.raises(TryAgain, match=f"^the channel answered {status}$") as caught:
        http.post(server.url, {})
    assert caught.value.after_seconds is None


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, "invalid_payload", "400 invalid_payload"),
        (403, "action_prohibited\n", "403 action_prohibited"),
        (404, "no_service", "404 no_service"),
        (404, f"nothing at {fake_http_server.PATH}", "404"),
        (410, "channel_is_archived", "410 channel_is_archived"),
        (418, "", "418"),
    ],
)
def test_what_is_refused_for_good_is_not_tried_again(
    server: Server, http: Http, status: int, body: str, reason: str
) -> None:
    server.behaviour = answer(status, body, Retry_After="1")
    with pytest.raises(Undeliverable) as caught:
        http.post(server.url, {})
    assert caught.value.reason == f"the channel answered {reason}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(server: Server, http: Http, status: int) -> None:
    server.behaviour = answer(status, Location=server.url)
    with pytest.raises(Undeliverable, match=str(status)):
        http.post(server.url, {})
    assert len(server.received) == 1


@pytest.mark.parametrize("how", ["say_nothing", "drip"])
def test_a_slow_server_holds_nobody_beyond_the_total_time(server: Server, hasty: Http, how: str) -> None:
    server.behaviour = getattr(server, how)
    began = time.monotonic()
    with pytest.raises(TryAgain, match=r"^no answer within 0\.3 s$"):
        hasty.post(server.url, {})
    assert time.monotonic() - began < 2


def test_a_dripping_body_holds_nobody_either(server: Server, hasty: Http) -> None:
    def behaviour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        server.drip(connection)

    server.behaviour = behaviour
    with pytest.raises(TryAgain, match="no answer within"):
        hasty.post(server.url, {})


def test_of_an_endless_answer_only_the_beginning_is_read(server: Server, http: Http) -> None:
    def behaviour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not server.stopping.is_set():
            connection.sendall(b"x" * 10_000)

    server.behaviour = behaviour
    assert http.post(server.url, {}).text == "x" * MAX_ANSWER_BYTES


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
def test_a_broken_answer_is_tried_again(server: Server, http: Http, sent: bytes) -> None:
    server.behaviour = raw(sent)
    with pytest.raises(TryAgain, match=r"^the connection broke before the answer was complete$"):
        http.post(server.url, {})


def test_a_server_that_is_away_is_tried_again(http: Http) -> None:
    with fake_http_server.running() as server:
        url = server.url
    with pytest.raises(TryAgain, match=r"^cannot connect to the server of the channel$"):
        http.post(url, {})


@pytest.mark.parametrize("url", ["gopher://example.test/", "http://", "http://a:b"])
def test_a_url_that_leads_nowhere_is_refused_for_good(http: Http, url: str) -> None:
    with pytest.raises(Undeliverable, match=r"^the URL of the channel is not one that can be reached$"):
        http.post(url, {})


def test_no_log_and_no_traceback_holds_the_url(
    server: Server, http: Http, hasty: Http, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = ""
    for client, behaviour in [
        (http, answer(200, "ok")),
        (http, answer(404, fake_http_server.PATH)),
        (http, raw(b"")),
        (http, raw(b"garbage\r\n\r\n")),
        (hasty, server.say_nothing),
    ]:
        server.behaviour = behaviour
        try:
            client.post(server.url, {})
        except (TryAgain, Undeliverable) as error:
            told += repr(error) + "".join(traceback.format_exception(error))
    assert told
    assert "s3cr3t" not in told + caplog.text


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
def test_retry_after_is_read_in_both_its_forms(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds

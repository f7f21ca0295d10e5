"""Tests of `eventpulse bench`: accepted and stored events, latency, and exit codes."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.cli import Run
from support.processes import free_ports, run, up

from eventpulse.cli import load_generator
from eventpulse.cli.load_generator import Outcome


def test_accepted_events_are_counted_and_stored(tmp_path: Path) -> None:
    with up(tmp_path, EVENTPULSE_MAX_BACKLOG="1000000") as running:
        api = running.url.removesuffix("/api/v1")
        measured = run("bench", "--url", api, "--rate", "500", "--batch", "10", "--seconds", "1", "-o", "json")
        assert measured.returncode == 0, measured.stderr
        figures = {row["figure"]: row["value"] for row in json.loads(measured.stdout)}
        assert figures["accepted, events"] == 500
        assert 0 < figures["latency p50, ms"] <= figures["latency p95, ms"] <= figures["latency p99, ms"]
        one = run("bench", "--url", api, "--batch", "1", "--connections", "2", "--seconds", "0.2")
        assert one.returncode == 0, one.stderr


def test_rejected_requests_are_counted_with_exit_code_5(tmp_path: Path) -> None:
    with up(tmp_path, EVENTPULSE_MAX_BACKLOG="1") as running:
        measured = run("bench", "--url", running.url.removesuffix("/api/v1"), "--seconds", "0.5", "-o", "json")
    assert measured.returncode == 5, measured.stderr
    figures = {row["figure"]: row["value"] for row in json.loads(measured.stdout)}
    assert figures["responses with status 503"] > 0


def test_an_unavailable_api_is_reported_with_exit_code_69(eventpulse: Run) -> None:
    (closed,) = free_ports(1)
    ended = eventpulse("bench", "--url", f"http://127.0.0.1:{closed}", "--seconds", "0.1")
    assert ended.code == 69
    assert len(ended.err.strip().splitlines()) == 2


class Slow(BaseHTTPRequestHandler):
    """Request handler that responds after `release` is set."""

    protocol_version = "HTTP/1.1"
    release = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        Slow.release.wait(10)
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def slow() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    timer = threading.Timer(0.5, Slow.release.set)
    timer.start()
    yield server
    timer.join()
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_latency_of_a_request_includes_its_wait_for_a_free_connection(slow: ThreadingHTTPServer) -> None:
    """Ten requests are due within 0.1 s, but the first request occupies the only connection for 0.5 s."""
    outcome = load_generator.drive(
        f"http://127.0.0.1:{slow.server_address[1]}/api/v1", 1, seconds=0.1, rate=100, connections=1
    )
    assert outcome.accepted == 10
    assert min(outcome.latencies) > 0.35


def test_percentiles_use_the_nearest_rank() -> None:
    outcome = Outcome(latencies=[number / 1000 for number in range(1, 101)])
    assert [outcome.percentile(share) for share in (0, 0.5, 0.95, 1)] == pytest.approx([1, 50, 95, 100])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--url", "nonsense"),
        ("--url", "http://"),
        ("--url", "http://[::1"),
        ("--url", "http://127.0.0.1:99999"),
        ("--url", "ftp://127.0.0.1"),
        ("--rate", "nan"),
        ("--rate", "inf"),
        ("--rate", "0"),
        ("--seconds", "nan"),
    ],
)
def test_values_that_cannot_be_measured_are_a_usage_error(arguments: tuple[str, str], eventpulse: Run) -> None:
    ended = eventpulse("bench", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert f"Invalid value for '{arguments[0]}'" in ended.err

"""Tests of the log lines of requests: rejected requests are logged as samples."""

import pytest
import structlog
from falcon.testing import TestClient
from support.api_server import UNREACHABLE_POSTGRES, serve
from support.waiting import until

from eventpulse.log_sampler import LINES


def test_a_flood_of_rejected_requests_causes_few_lines_and_one_with_the_number_of_the_others(
    ingest_client: TestClient,
) -> None:
    def shown(status: int) -> int:
        return sum(line["event"] == "request" and line["status"] == status for line in lines)

    def omitted(status: int) -> int:
        return sum(
            line["lines"] for line in lines if line["event"] == "log_lines_omitted" and line.get("status") == status
        )

    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            ingest_client.simulate_get("/api/v1/nothing")
            ingest_client.simulate_post("/api/v1/events", body=b"{")
        until(lambda: all(shown(status) + omitted(status) == 100 for status in (404, 415)))
    assert max(shown(404), shown(415)) < 100


def test_requests_that_gunicorn_cannot_parse_are_sampled_too(redis_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    shown = ""

    def errors() -> str:
        nonlocal shown
        shown += capfd.readouterr().err
        return shown

    with serve(REDIS_URL=redis_url, DATABASE_URL=UNREACHABLE_POSTGRES, LOG_LEVEL="info") as server:
        for _ in range(10 * LINES):
            with server.connect() as client:
                client.sendall(b"no HTTP\r\n\r\n")
                while client.recv(4096):
                    pass
        until(lambda: "log_lines_omitted" in errors())
    assert LINES <= errors().count("Invalid request from ip") < 10 * LINES

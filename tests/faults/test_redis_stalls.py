"""Tests of a suspended Redis: ingest responds with 503 within a second."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest
from support.api_server import Server, serve
from support.pipeline_factory import event

from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon

MAX_SECONDS = 1.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Daemon]:
    """Start a Redis server for the test. Resume the server after the test, because a suspended process cannot stop."""
    server = embedded.start_redis(tmp_path / "redis")
    yield server
    os.kill(server.pid, signal.SIGCONT)
    server.stop()


@pytest.fixture
def api(server: Daemon, database_url: str) -> Iterator[Server]:
    with serve(REDIS_URL=server.url, DATABASE_URL=database_url) as api:
        yield api


def post(api: Server, times: int) -> list[tuple[int, float]]:
    """Send `times` requests with one event each; return the status and duration in seconds of each response."""
    body = msgspec.json.decode(event())
    del body["received_at"]
    found = []
    with httpx.Client(trust_env=False, timeout=10) as client:
        for _ in range(times):
            started = time.monotonic()
            response = client.post(f"http://127.0.0.1:{api.port}/api/v1/events", json=body)
            found.append((response.status_code, time.monotonic() - started))
    return found


def test_a_redis_that_does_not_answer_is_a_503_within_a_second(server: Daemon, api: Server) -> None:
    assert post(api, 1)[0][0] == 202
    os.kill(server.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(16) as clients:
        answers = [answer for found in clients.map(lambda _: post(api, 4), range(16)) for answer in found]
    assert {status for status, _ in answers} == {503}
    assert max(seconds for _, seconds in answers) < MAX_SECONDS
    health = httpx.get(f"http://127.0.0.1:{api.port}/api/v1/events/health", timeout=MAX_SECONDS, trust_env=False)
    assert health.status_code == 503
    os.kill(server.pid, signal.SIGCONT)
    assert httpx.get(f"http://127.0.0.1:{api.port}/readyz", trust_env=False).status_code == 200

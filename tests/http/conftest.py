"""The API as clients meet it: called in this process, or served by gunicorn where connections and streams matter."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import psutil
import pytest
import redis
from falcon.testing import TestClient
from waiting import until

from api.app import create_app
from eventpulse.settings import Settings

NOBODY = "postgresql://nobody@127.0.0.1:1/nothing"  # where no PostgreSQL listens

Queued = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def settings(redis_url: str, redis_client: redis.Redis, empty_database: str) -> Settings:
    return Settings(redis_url=redis_url, database_url=empty_database)


@pytest.fixture
def client(settings: Settings) -> TestClient:
    """The API over an empty Redis and an empty database."""
    return TestClient(create_app(settings))


@pytest.fixture
def door(redis_url: str, redis_client: redis.Redis) -> TestClient:
    """The API over an empty Redis, and without PostgreSQL: what events need to come in."""
    return TestClient(create_app(Settings(redis_url=redis_url, database_url=NOBODY)))


@pytest.fixture
def queued(redis_client: redis.Redis) -> Queued:
    """The events that wait to be stored, in the order of the queue."""

    def read() -> list[dict[str, Any]]:
        ids = redis_client.lrange("eventpulse:persist", 0, -1)
        messages = redis_client.hmget("eventpulse:persist.msgs", ids) if ids else []
        assert len(ids) == redis_client.hlen("eventpulse:persist.msgs")
        return [msgspec.json.decode(message)["args"][0] for message in messages]

    return read


@dataclass(frozen=True)
class Server:
    """A served API."""

    process: psutil.Process
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def worker(self) -> psutil.Process:
        """The one process that answers requests."""
        (child,) = self.process.children()
        return child

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@pytest.fixture(scope="session")
def server(redis_url: str) -> Iterator[Server]:
    """The API as `eventpulse api` serves it, in one worker process, without PostgreSQL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "REDIS_URL": redis_url,
        "DATABASE_URL": NOBODY,
        "EVENTPULSE_PORT": str(port),
        "EVENTPULSE_API_WORKERS": "1",
        "LOG_LEVEL": "warning",
    }
    process = subprocess.Popen([sys.executable, "-m", "eventpulse", "api"], env=environment)
    try:
        until(lambda: process.poll() is not None or socket.socket().connect_ex(("127.0.0.1", port)) == 0, 30)
        assert process.poll() is None, "the API does not start"
        yield Server(psutil.Process(process.pid), port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)

"""Fixtures for tests of the HTTP API. The API runs in this process, or in gunicorn for tests of connections."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis
from falcon.testing import TestClient
from support.api_server import UNREACHABLE_POSTGRES, Server, api_settings, serve
from support.http_events import Queued

from actors.pipeline.records import event_of
from api.app import create_app
from eventpulse.settings import ConnectedSettings


@pytest.fixture
def settings(redis_url: str, redis_client: redis.Redis, empty_database: str) -> ConnectedSettings:
    return api_settings(redis_url, empty_database)


@pytest.fixture
def client(settings: ConnectedSettings) -> TestClient:
    """Return a client of an API with an empty Redis and an empty database."""
    return TestClient(create_app(settings))


@pytest.fixture
def ingest_client(redis_url: str, redis_client: redis.Redis) -> TestClient:
    """Return a client of an API with an empty Redis and without PostgreSQL, which ingest does not need."""
    return TestClient(create_app(api_settings(redis_url)))


@pytest.fixture
def queued(redis_client: redis.Redis) -> Queued:
    """Return a function that reads the events in the queue of the persist actor, in order."""

    def read() -> list[dict[str, Any]]:
        ids = redis_client.lrange("eventpulse:persist", 0, -1)
        found: list[Any] = redis_client.hmget("eventpulse:persist.msgs", ids) if ids else []
        assert len(ids) == redis_client.hlen("eventpulse:persist.msgs")
        lines = [line for data in found for line in data.split(b"\n")[1:]]
        assert len(lines) == int(redis_client.get("eventpulse:persist.count") or 0)
        return [msgspec.json.decode(event_of(line)) for line in lines]

    return read


@pytest.fixture(scope="session")
def server(redis_url: str) -> Iterator[Server]:
    """Start `eventpulse api` with one worker process and without PostgreSQL."""
    with serve(REDIS_URL=redis_url, DATABASE_URL=UNREACHABLE_POSTGRES) as served:
        yield served

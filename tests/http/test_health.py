"""Tests of the health response, the probes and the published limits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from falcon.testing import TestClient
from support.api_server import api_settings
from support.http_events import event
from support.waiting import until

from actors.broker import broker
from actors.rule_state import unsupported
from actors.transport import queues
from api.app import create_app


@pytest.fixture
def client_without_servers(tmp_path: Path) -> TestClient:
    """Return a client of an API whose Redis and PostgreSQL are unavailable."""
    return TestClient(create_app(api_settings(f"unix://{tmp_path}/no.sock")))


def test_without_workers_the_worker_state_is_unknown(ingest_client: TestClient) -> None:
    response = ingest_client.simulate_get("/api/v1/events/health")

    assert response.status_code == 200
    assert response.json == {"status": "ok", "redis": "PONG", "worker": "unknown"}


@pytest.fixture
def busy_worker(ingest_client: TestClient) -> Iterator[None]:
    """Start a worker that processes only notifications, so that events stay in the queue."""
    worker = dramatiq.Worker(broker, queues={"notify"}, worker_threads=1, worker_timeout=50)
    worker.start()
    until(lambda: ingest_client.simulate_get("/api/v1/events/health").json["worker"] != "unknown")
    yield
    worker.stop(5_000)


@pytest.mark.usefixtures("busy_worker")
def test_workers_are_degraded_when_an_event_waits_too_long(
    ingest_client: TestClient, redis_client: redis.Redis
) -> None:
    ingest_client.simulate_post("/api/v1/events", json=event())
    assert ingest_client.simulate_get("/api/v1/events/health").json["worker"] == "ok"

    messages: dict[Any, Any] = redis_client.hgetall("eventpulse:persist.msgs")
    ((message_id, message),) = messages.items()
    aged = message.replace(b'"message_timestamp":', b'"message_timestamp":0,"was":')
    redis_client.hset("eventpulse:persist.msgs", message_id, aged)
    assert ingest_client.simulate_get("/api/v1/events/health").json["worker"] == "degraded"


def test_without_redis_health_and_readiness_fail_but_liveness_does_not(client_without_servers: TestClient) -> None:
    health = client_without_servers.simulate_get("/api/v1/events/health")
    assert health.status_code == 503
    assert health.json == {"status": "unavailable", "redis": "unreachable", "worker": "unknown"}
    assert client_without_servers.simulate_get("/readyz").status_code == 503
    assert client_without_servers.simulate_get("/livez").status_code == 200


def test_ingest_is_ready_without_postgresql(ingest_client: TestClient) -> None:
    assert ingest_client.simulate_get("/readyz").json == {"status": "ok"}
    assert ingest_client.simulate_post("/api/v1/events", json=event()).status_code == 202


def test_the_configured_limits_are_published(redis_url: str) -> None:
    settings = api_settings(redis_url, max_batch_events=7)
    response = TestClient(create_app(settings)).simulate_get("/api/v1/limits")

    assert response.json == {
        "max_batch_events": 7,
        "max_body_bytes": 5 * 1024 * 1024,
        "max_event_bytes": 64 * 1024,
        "max_depth": 32,
        "max_active_rules": 500,
        "max_body_nodes": 500_000,
        "max_event_nodes": 100_000,
        "max_page_bytes": 4 * 1024 * 1024,
        "max_body_bytes_in_flight": 64 * 1024 * 1024,
        "max_connections_per_address": 500,
    }


def test_rules_that_running_workers_do_not_support_are_counted(ingest_client: TestClient) -> None:
    worker = dramatiq.Worker(broker, queues={"notify"}, worker_threads=1, worker_timeout=50)
    worker.start()
    try:
        until(lambda: broker.worker_id in queues.worker_ids(broker))
        assert "unsupported_rules" not in ingest_client.simulate_get("/api/v1/events/health").json
        unsupported.report(broker, {"rule-1": "unknown type", "rule-2": "unknown field"})
        assert ingest_client.simulate_get("/api/v1/events/health").json["unsupported_rules"] == 2
        unsupported.report(broker, {})
        assert "unsupported_rules" not in ingest_client.simulate_get("/api/v1/events/health").json
    finally:
        worker.stop(5_000)

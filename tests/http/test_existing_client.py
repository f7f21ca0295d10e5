"""Tests of compatibility with clients of earlier versions: unchanged paths, bodies and names."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import redis
from support.http_rules import RULE
from support.waiting import until

TWO_ERRORS = RULE | {"condition": RULE["condition"] | {"value": 2}}
PAGINATION = {"limit", "offset", "count", "next_cursor"}


@pytest.fixture(scope="module")
def installation(redis_url: str, database_url: str) -> Iterator[str]:
    """Start an API and a worker, each in its own process, and return the base URL of the API."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = os.environ | {
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "EVENTPULSE_PORT": str(port),
        "EVENTPULSE_API_WORKERS": "1",
        "LOG_LEVEL": "warning",
    }
    processes = [
        subprocess.Popen([sys.executable, "-m", "eventpulse", role], env=environment) for role in ("api", "worker")
    ]
    try:
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 30)
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(30)


@pytest.fixture
def client(installation: str, empty_database: str, redis_client: redis.Redis) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=installation) as client:
        yield client


def error(second: int = 0, **fields: Any) -> dict[str, Any]:
    at = datetime.now(UTC) - timedelta(seconds=second)
    return {
        "event_type": "error",
        "source": "payment_service",
        "timestamp": at.isoformat(),
        "payload": {"code": 500},
        "metadata": {"region": "eu"},
    } | fields


def stored(client: httpx.Client, count: int) -> list[dict[str, Any]]:
    """Wait until `count` events are stored, and return them."""

    def listed() -> list[dict[str, Any]] | None:
        events = client.get("/events").json()["data"]
        return events if len(events) == count else None

    events = until(listed, 20)
    assert events is not None
    return events


def test_an_event_is_accepted_and_read_back(client: httpx.Client) -> None:
    sent = error(event_id=str(uuid4()))
    accepted = client.post("/events", json=sent)
    assert (accepted.status_code, accepted.json()) == (202, {"status": "accepted", "event_id": sent["event_id"]})
    (event,) = stored(client, 1)
    assert event.keys() == {*sent, "received_at"}
    assert {name: event[name] for name in sent if name != "timestamp"} == {
        name: value for name, value in sent.items() if name != "timestamp"
    }
    assert datetime.fromisoformat(event["timestamp"]) == datetime.fromisoformat(sent["timestamp"])
    assert client.get(f"/events/{sent['event_id']}").json() == event
    assert client.get(f"/events/{uuid4()}").status_code == 404
    assert client.get("/events/no-uuid").status_code == 400


@pytest.mark.parametrize("wrapped", [False, True], ids=["array", "envelope"])
def test_a_batch_is_accepted_and_listed(client: httpx.Client, wrapped: bool) -> None:
    batch = [error(n, source=f"source-{n}") for n in range(3)]
    accepted = client.post("/events/batch", json={"events": batch} if wrapped else batch)
    body = accepted.json()
    assert accepted.status_code == 202
    assert (body["status"], body["count"], body.keys()) == ("accepted", 3, {"status", "count", "event_ids"})
    assert [str(UUID(event_id)) for event_id in body["event_ids"]] == body["event_ids"]
    newest_first = [event["event_id"] for event in stored(client, 3)]
    assert newest_first == body["event_ids"]

    page = client.get("/events", params={"event_type": "error", "source": "source-1", "limit": 1, "offset": 0}).json()
    assert page.keys() == {"data", "pagination"}
    assert page["pagination"] == {"limit": 1, "offset": 0, "count": 1, "next_cursor": None}
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    until_now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    assert client.get("/events", params={"from": since, "to": until_now}).json()["pagination"]["count"] == 3


def test_a_rule_is_stored_and_fires(client: httpx.Client) -> None:
    created = client.post("/rules", json=TWO_ERRORS)
    rule = created.json()
    assert created.status_code == 201
    assert rule.keys() >= {*TWO_ERRORS, "rule_id", "version", "status", "created_at", "updated_at"}
    assert (rule["version"], rule["status"]) == (1, "active")
    path = f"/rules/{rule['rule_id']}"
    assert client.get(path).json() == rule
    listed = client.get("/rules").json()
    assert (listed["data"], listed["pagination"].keys()) == ([rule], PAGINATION)

    client.post("/events/batch", json=[error(n) for n in range(4)])
    anomaly = until(lambda: client.get("/anomalies").json()["data"], 20)[0]
    assert anomaly.keys() >= {"anomaly_id", "rule_id", "severity", "event_id", "message", "detected_at"}
    assert (anomaly["rule_id"], anomaly["severity"]) == (rule["rule_id"], "critical")
    found = client.get("/anomalies", params={"rule_id": rule["rule_id"], "severity": "critical"}).json()
    assert found["data"] == [anomaly]
    one = client.get(f"/anomalies/{anomaly['anomaly_id']}").json()
    assert one | anomaly == one

    assert client.put(path, json=TWO_ERRORS | {"name": "Renamed"}).json()["version"] == 2
    assert client.patch(path, json={"enabled": False}).json()["status"] == "disabled"
    assert (client.delete(path).status_code, client.get(path).status_code) == (204, 404)


def test_metrics_and_health_have_their_fields(client: httpx.Client) -> None:
    client.post("/events/batch", json=[error(n) for n in range(3)])
    stored(client, 3)
    metrics = client.get("/metrics", params={"window_seconds": 60, "group_by": "source"}).json()
    assert metrics.keys() == {"window_seconds", "group_by", "from", "to", "metrics"}
    assert metrics["metrics"] == [{"key": "payment_service", "count": 3, "rate_per_sec": 0.05}]
    health = client.get("/events/health")
    assert health.status_code == 200
    assert health.json().keys() == {"status", "redis", "worker"}
    assert (health.json()["status"], health.json()["redis"]) == ("ok", "PONG")
    assert health.json()["worker"] in ("ok", "degraded", "unknown")


def test_invalid_requests_have_their_statuses(client: httpx.Client) -> None:
    assert client.post("/events", json={"source": "web"}).status_code == 400
    assert client.post("/events/batch", json=[]).status_code == 400
    assert client.get("/events", params={"limit": "many"}).status_code == 400
    assert client.get("/events", params={"limit": 9_999}).json()["pagination"]["limit"] == 500
    assert client.get("/metrics", params={"window_seconds": 5}).status_code == 400
    assert client.post("/rules", json=RULE | {"severity": "fatal"}).status_code == 400
    assert client.get("/nowhere").status_code == 404

"""Tests of metrics and throughput over HTTP."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import pytest
from falcon.testing import TestClient

from models.base import now
from models.event import Event
from models.throughput import Throughput

MINUTE = datetime(2026, 11, 20, 12, tzinfo=UTC)


def store(count: int, event_type: str, source: str, age_seconds: float = 1) -> None:
    at = now() - timedelta(seconds=age_seconds)
    event = {
        "event_type": event_type,
        "source": source,
        "timestamp": at,
        "payload": {},
        "metadata": {},
        "received_at": at,
    }
    Event.store(msgspec.json.encode(event | {"event_id": uuid4()}) for _ in range(count))


def test_events_of_the_last_minute_are_counted_by_type_in_descending_order(client: TestClient, db: None) -> None:
    store(1, "login", "web")
    store(3, "error", "web")
    store(1, "click", "app")
    store(9, "error", "web", age_seconds=61)
    store(9, "error", "web", age_seconds=-30)
    metrics = client.simulate_get("/api/v1/metrics").json
    assert (metrics["window_seconds"], metrics["group_by"]) == (60, "event_type")
    assert metrics["metrics"] == [
        {"key": "error", "count": 3, "rate_per_sec": 0.05},
        {"key": "click", "count": 1, "rate_per_sec": 1 / 60},
        {"key": "login", "count": 1, "rate_per_sec": 1 / 60},
    ]
    since, until = datetime.fromisoformat(metrics["from"]), datetime.fromisoformat(metrics["to"])
    assert until - since == timedelta(seconds=60)
    assert metrics["to"].endswith("Z")


def test_events_are_counted_by_source_in_the_requested_window(client: TestClient, db: None) -> None:
    store(2, "login", "web", age_seconds=500)
    store(1, "error", "app")
    metrics = client.simulate_get("/api/v1/metrics", params={"window_seconds": 600, "group_by": "source"}).json
    assert [(metric["key"], metric["count"]) for metric in metrics["metrics"]] == [("web", 2), ("app", 1)]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("window_seconds=9", "window_seconds"),
        ("window_seconds=3601", "window_seconds"),
        ("window_seconds=1m", "window_seconds"),
        ("group_by=payload", "group_by"),
    ],
)
def test_an_invalid_parameter_is_named_in_the_error(client: TestClient, query: str, field: str) -> None:
    answer = client.simulate_get("/api/v1/metrics", query_string=query)
    assert (answer.status_code, [error["field"] for error in answer.json["errors"]]) == (400, [field])


@pytest.mark.parametrize("window_seconds", [10, 3600])
def test_the_minimum_and_maximum_window_are_allowed(client: TestClient, window_seconds: int) -> None:
    assert client.simulate_get("/api/v1/metrics", params={"window_seconds": window_seconds}).json["metrics"] == []


def test_throughput_lists_each_minute_newest_first(client: TestClient, db: None) -> None:
    for minutes in range(3):
        Throughput.record(MINUTE + timedelta(minutes=minutes), accepted=100 + minutes, oldest_age_seconds=0.5)
    answer = client.simulate_get("/api/v1/throughput", params={"limit": 2}).json
    assert answer["data"][0] == {
        "minute": "2026-11-20T12:02:00Z",
        "accepted": 102,
        "persisted": 0,
        "conflicting": 0,
        "evaluated": 0,
        "late": 0,
        "anomalies": 0,
        "delivered": 0,
        "dead": 0,
        "queue_depth": 0,
        "oldest_age_seconds": 0.5,
    }
    rest = client.simulate_get("/api/v1/throughput", params={"cursor": answer["pagination"]["next_cursor"]}).json
    assert [minute["accepted"] for minute in answer["data"] + rest["data"]] == [102, 101, 100]
    period = client.simulate_get(
        "/api/v1/throughput", params={"from": "2026-11-20T12:01:00Z", "to": "2026-11-20T12:01:00Z"}
    )
    assert [minute["accepted"] for minute in period.json["data"]] == [101]


def test_a_cursor_of_another_list_is_rejected(client: TestClient, db: None) -> None:
    for minutes in range(2):
        Throughput.record(MINUTE + timedelta(minutes=minutes), accepted=1)
    cursor = client.simulate_get("/api/v1/throughput", params={"limit": 1}).json["pagination"]["next_cursor"]
    assert client.simulate_get("/api/v1/events", params={"cursor": cursor}).status_code == 400

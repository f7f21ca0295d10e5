"""Tests of anomalies and their deliveries over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from falcon.testing import TestClient

from models import delivery_queue
from models.anomaly import Anomaly
from models.channel import Channel
from models.delivery import Delivery

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
RULES = [UUID(int=1), UUID(int=2)]


def record(n: int, **fields: Any) -> Anomaly:
    """Store and return anomaly number `n`, detected `n` seconds after noon."""
    return Anomaly.create(
        **{
            "anomaly_id": UUID(int=100 + n),
            "dedupe_key": str(n),
            "series": "rule:group",
            "cooldown_anchor": NOON,
            "rule_id": RULES[n % 2],
            "rule_name": "High error rate",
            "rule_version": 3,
            "severity": "critical" if n >= 3 else "info",
            "group_key": '{"source": "payments"}',
            "event_id": UUID(int=200 + n),
            "message": f"anomaly {n}",
            "evidence": {"observed": 6, "threshold": 5, "samples": []},
            "request_id": "request-7",
            "occurred_at": NOON,
            "detected_at": NOON + timedelta(seconds=n),
            **fields,
        }
    )


@pytest.fixture
def five(client: TestClient, db: None) -> TestClient:
    for n in range(5):
        record(n)
    return client


def numbers(client: TestClient, **params: Any) -> list[int]:
    answer = client.simulate_get(
        "/api/v1/anomalies", params={name.rstrip("_"): value for name, value in params.items()}
    )
    assert answer.status_code == 200, answer.text
    return [int(anomaly["message"].removeprefix("anomaly ")) for anomaly in answer.json["data"]]


def test_a_listed_anomaly_contains_its_rule_event_and_evidence(client: TestClient, db: None) -> None:
    record(1)
    assert client.simulate_get("/api/v1/anomalies").json["data"] == [
        {
            "anomaly_id": str(UUID(int=101)),
            "kind": "firing",
            "rule_id": str(RULES[1]),
            "rule_name": "High error rate",
            "rule_version": 3,
            "severity": "info",
            "group_key": '{"source": "payments"}',
            "event_id": str(UUID(int=201)),
            "message": "anomaly 1",
            "evidence": {"observed": 6, "threshold": 5, "samples": []},
            "request_id": "request-7",
            "occurred_at": "2026-11-20T12:00:00Z",
            "detected_at": "2026-11-20T12:00:01Z",
        }
    ]


def test_an_anomaly_is_returned_with_its_deliveries_sorted_by_channel(client: TestClient, db: None) -> None:
    anomaly = record(1)
    for name in ("pager", "ops"):
        Channel.create(name=name, kind="slack")
    Delivery.create_missing([anomaly.anomaly_id], Channel.select().where(Channel.kind == "slack"))
    ops = Channel.get(Channel.name == "ops")
    delivery_queue.claim(ops.channel_id)
    Delivery.record_delivered([anomaly.anomaly_id], ops.channel_id, "Slack answered ok", "1700000000.000100")
    shown = client.simulate_get(f"/api/v1/anomalies/{anomaly.anomaly_id}").json
    (listed,) = client.simulate_get("/api/v1/anomalies").json["data"]
    first, second = shown.pop("deliveries")
    assert shown == listed
    assert first["delivered_at"].endswith("Z")
    assert first == {
        "channel_id": str(ops.channel_id),
        "channel_name": "ops",
        "status": "delivered",
        "attempts": 1,
        "receipt": "Slack answered ok",
        "reference": "1700000000.000100",
        "digest_id": None,
        "last_error": None,
        "delivered_at": first["delivered_at"],
        "created_at": first["created_at"],
    }
    assert (second["channel_name"], second["status"], second["attempts"]) == ("pager", "pending", 0)


def test_anomalies_are_listed_newest_first_in_pages(five: TestClient) -> None:
    assert numbers(five) == [4, 3, 2, 1, 0]
    assert numbers(five, limit=2, offset=1) == [3, 2]
    page = five.simulate_get("/api/v1/anomalies", params={"limit": 3}).json["pagination"]
    assert numbers(five, cursor=page["next_cursor"]) == [1, 0]


def test_filters_apply_alone_and_in_combination(five: TestClient) -> None:
    assert numbers(five, rule_id=RULES[0]) == [4, 2, 0]
    assert numbers(five, severity="critical") == [4, 3]
    assert numbers(five, event_id=UUID(int=202)) == [2]
    assert numbers(five, rule_id=RULES[0], severity="info") == [2, 0]
    assert numbers(five, rule_id=uuid4()) == []


def test_from_and_to_apply_to_the_time_of_detection(five: TestClient) -> None:
    assert numbers(five, from_="2026-11-20T12:00:01Z", to="2026-11-20T12:00:03Z") == [3, 2, 1]


@pytest.mark.parametrize(
    ("query", "field"),
    [("rule_id=7", "rule_id"), ("event_id=", "event_id"), ("severity=fatal", "severity"), ("limit=x", "limit")],
)
def test_an_invalid_parameter_is_named_in_the_error(client: TestClient, query: str, field: str) -> None:
    answer = client.simulate_get("/api/v1/anomalies", query_string=query)
    assert (answer.status_code, [error["field"] for error in answer.json["errors"]]) == (400, [field])


def test_an_unknown_anomaly_gets_404_and_an_invalid_id_400(client: TestClient) -> None:
    assert client.simulate_get(f"/api/v1/anomalies/{uuid4()}").status_code == 404
    answer = client.simulate_get("/api/v1/anomalies/7")
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (400, "anomaly_id")

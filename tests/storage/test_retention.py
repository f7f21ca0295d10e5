"""What is older than the settings allow is forgotten, by our own clock."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from uuid_utils.compat import uuid7

from models.anomaly import Anomaly
from models.base import now
from models.channel import Channel
from models.database import connection
from models.delivery import Delivery
from models.event import Event
from schedules import retention


@pytest.fixture(autouse=True)
def _database(empty_database: str) -> Iterator[None]:
    with connection():
        yield


def store_event(received_at: datetime, timestamp: datetime | None = None) -> None:
    Event.create(
        event_id=uuid7(),
        event_type="order",
        source="shop",
        timestamp=timestamp or received_at,
        payload={},
        metadata={},
        received_at=received_at,
    )


def store_anomaly(detected_at: datetime) -> Anomaly:
    return Anomaly.create(
        dedupe_key=str(uuid7()),
        rule_id=uuid7(),
        rule_name="A rule",
        rule_version=1,
        severity="info",
        group_key="{}",
        event_id=uuid7(),
        message="It fired",
        evidence={},
        series="a series",
        cooldown_anchor=detected_at,
        occurred_at=detected_at,
        detected_at=detected_at,
    )


def test_old_events_are_dropped_and_young_ones_stay() -> None:
    for days in (1, 29, 31, 400):
        store_event(now() - timedelta(days=days))
    assert retention.drop_old_events(30) == 2
    assert Event.select().count() == 2


def test_an_event_from_the_far_future_grows_old_too() -> None:
    store_event(now() - timedelta(days=31), timestamp=now() + timedelta(days=9_999))
    assert retention.drop_old_events(30) == 1


def test_nothing_is_dropped_when_retention_is_off() -> None:
    store_event(now() - timedelta(days=4_000))
    assert retention.drop_old_events(0) == 0


def test_more_than_a_batch_is_dropped_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for _ in range(5):
        store_event(now() - timedelta(days=31))
    assert retention.drop_old_events(30) == 5


def test_an_old_anomaly_takes_its_deliveries_along() -> None:
    old, young = (store_anomaly(now() - timedelta(days=days)) for days in (91, 1))
    for anomaly in (old, young):
        Delivery.plan(anomaly, Channel.concerned("info"))
    assert retention.drop_old_anomalies(90) == 1
    assert {delivery.anomaly_id for delivery in Delivery.select()} == {young.anomaly_id}

"""Tests of the deletion of old rows. The age of an event is counted from its arrival, not from its timestamp."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from uuid_utils.compat import uuid7

from models.anomaly import Anomaly
from models.base import Row, now
from models.channel import Channel
from models.database import connection, database
from models.dead_letter import DeadLetter
from models.delivery import Delivery
from models.event import Event
from models.throughput import Throughput
from schedules import retention

Drop = Callable[[int], int]
Store = Callable[[datetime], object]


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


def store_dead_letter(dead_lettered_at: datetime) -> None:
    DeadLetter.create(
        dead_letter_id=str(uuid7()), queue_name="persist", error="E", message=b"{}", dead_lettered_at=dead_lettered_at
    )


def store_throughput(minute: datetime) -> None:
    Throughput.record(minute, accepted=1)


def days_ago(days: float) -> datetime:
    return now() - timedelta(days=days)


JOBS = [
    pytest.param(retention.drop_old_events, store_event, Event, id="events"),
    pytest.param(retention.drop_old_anomalies, store_anomaly, Anomaly, id="anomalies"),
    pytest.param(retention.drop_old_dead_letters, store_dead_letter, DeadLetter, id="dead letters"),
    pytest.param(retention.drop_old_throughput, store_throughput, Throughput, id="throughput"),
]


@pytest.mark.parametrize(("drop_old", "store", "model"), JOBS)
def test_only_rows_older_than_the_limit_are_deleted(drop_old: Drop, store: Store, model: type[Row]) -> None:
    for days in (1, 29, 31, 400):
        store(days_ago(days))
    assert drop_old(30) == 2
    assert model.select().count() == 2


@pytest.mark.parametrize(("drop_old", "store", "model"), JOBS)
def test_zero_days_keep_all_rows(drop_old: Drop, store: Store, model: type[Row]) -> None:
    store(days_ago(4_000))
    assert drop_old(0) == 0
    assert model.select().count() == 1


@pytest.mark.parametrize(("drop_old", "store", "model"), JOBS)
def test_more_rows_than_a_batch_are_all_deleted(
    drop_old: Drop, store: Store, model: type[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 2)
    for minutes in range(5):
        store(days_ago(31) - timedelta(minutes=minutes))
    assert drop_old(30) == 5
    assert model.select().count() == 0


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("events", "received_at"),
        ("anomalies", "detected_at"),
        ("dead_letters", "dead_lettered_at"),
        ("throughput", "minute"),
    ],
)
def test_rows_to_delete_are_found_by_an_index(table: str, column: str) -> None:
    database.execute_sql("SET enable_seqscan = off")  # otherwise PostgreSQL uses no index for a small table
    try:
        plan = database.execute_sql(f"EXPLAIN SELECT ctid FROM {table} WHERE {column} < now() LIMIT 5000").fetchall()
    finally:
        database.execute_sql("RESET enable_seqscan")
    assert "Index" in "".join(line for (line,) in plan)


def test_an_event_with_a_time_in_the_far_future_is_deleted_too() -> None:
    store_event(days_ago(31), timestamp=now() + timedelta(days=9_999))
    assert retention.drop_old_events(30) == 1


def test_the_deliveries_of_an_old_anomaly_are_deleted_too() -> None:
    old, recent = (store_anomaly(days_ago(days)) for days in (91, 1))
    for anomaly in (old, recent):
        Delivery.create_missing([anomaly.anomaly_id], Channel.subscribed_to("info"))
    assert retention.drop_old_anomalies(90) == 1
    assert {delivery.anomaly_id for delivery in Delivery.select()} == {recent.anomaly_id}

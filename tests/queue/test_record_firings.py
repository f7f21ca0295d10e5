"""Tests of the recording of firings: duplicates, cooldowns, caps, and several workers at the same time."""

import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import redis
from structlog.testing import capture_logs
from support.firing_factory import ALWAYS, firings
from support.pipeline_factory import event, rule

from actors import runtime
from actors.pipeline import evidence
from actors.pipeline.record_firings import Recording, record_firings
from models.anomaly import Anomaly
from models.database import connection, database
from models.delivery import Delivery
from models.event import Event
from models.rule import Rule
from rules.engine.series import Firing
from rules.engine.storms import StormCaps

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
GROUPED = {**ALWAYS, "group_by": ["source"]}


@pytest.fixture
def noisy(pipeline: redis.Redis) -> Rule:
    """Store and return a rule without a cooldown that fires for each order; its caps are 3 per group and 5 in total."""
    runtime.bind(replace(runtime.current(), storm_caps=StormCaps(per_series=3, per_rule=5)))
    return rule(name="Noisy", condition=GROUPED, cooldown_seconds=0)


def record(found: Sequence[Firing]) -> Recording:
    return record_firings(found, lambda _: None)


def recorded(rule_row: Rule) -> list[Anomaly]:
    with connection():
        return list(Anomaly.select().where(Anomaly.rule_id == rule_row.rule_id).order_by(Anomaly.occurred_at))


def suppressed() -> int:
    """Return the number of firings in the counts of storms, which must equal the number of suppressed firings."""
    with connection():
        ((counted,),) = database.execute_sql(
            "SELECT COALESCE(sum(above_series_cap + above_rule_cap), 0) FROM storm_counts"
        ).fetchall()
        ((rows,),) = database.execute_sql("SELECT count(*) FROM suppressed_firings").fetchall()
    assert counted == rows
    return int(rows)


def orders(count: int, **fields: Any) -> list[bytes]:
    return [event(seconds=n / 1_000, **fields) for n in range(count)]


def test_the_same_firing_is_recorded_once(noisy: Rule) -> None:
    found = firings(noisy, orders(1))
    first, again = record(found), record(found)
    assert len(recorded(noisy)) == 1
    assert first.deliveries == again.deliveries, "a worker may have crashed before it queued the notifications"


@pytest.mark.parametrize(("seconds", "is_new"), [(-300, True), (-299, False), (299, False), (300, True)])
def test_anomalies_of_a_series_are_a_cooldown_apart_in_any_order(
    pipeline: redis.Redis, seconds: int, is_new: bool
) -> None:
    row = rule(condition=ALWAYS, cooldown_seconds=300)
    first, other = (
        event(timestamp=NOON + timedelta(seconds=by), received_at=NOON + timedelta(seconds=by)) for by in (0, seconds)
    )
    first_recording = record(firings(row, [first]))
    other_recording = record(firings(row, [other]))
    assert len(recorded(row)) == 1 + is_new
    same = first_recording.cooldowns[0].members == other_recording.cooldowns[0].members
    assert same is not is_new, "the cooldown in Redis must start at the anomaly that is stored"


def test_two_workers_that_find_the_same_anomaly_at_the_same_time_record_one(pipeline: redis.Redis) -> None:
    row = rule(condition=ALWAYS, cooldown_seconds=300)
    batches = [firings(row, [event(seconds=n)]) for n in range(4)]
    at_the_same_time(batches)
    assert len(recorded(row)) == 1


def test_firings_above_the_caps_are_counted_and_not_recorded(noisy: Rule) -> None:
    record(firings(noisy, [*orders(10, source="a"), *orders(10, source="b")]))
    assert Counter(anomaly.group_key for anomaly in recorded(noisy)) in (
        {'{"source":"a"}': 3, '{"source":"b"}': 2},
        {'{"source":"a"}': 2, '{"source":"b"}': 3},
    )
    assert suppressed() == 15


def test_the_caps_hold_over_several_batches(noisy: Rule) -> None:
    for _ in range(3):
        record(firings(noisy, orders(2)))
    assert (len(recorded(noisy)), suppressed()) == (3, 3)


def test_an_anomaly_of_more_than_a_minute_ago_does_not_count_for_the_caps(noisy: Rule) -> None:
    record(firings(noisy, orders(4)))
    with connection():
        Anomaly.update(detected_at=Anomaly.detected_at - timedelta(seconds=61)).execute()
    record(firings(noisy, orders(4)))
    assert (len(recorded(noisy)), suppressed()) == (6, 2)


def test_a_suppressed_firing_is_counted_once_and_never_recorded(noisy: Rule) -> None:
    found = firings(noisy, orders(10))
    record(found)
    with connection():
        Anomaly.update(detected_at=Anomaly.detected_at - timedelta(seconds=61)).execute()
    record(found)
    assert (len(recorded(noisy)), suppressed()) == (3, 7)


def test_counts_are_exact_with_two_workers_and_redeliveries(noisy: Rule) -> None:
    """Eight threads record overlapping batches, each of them twice; each firing is recorded or counted once."""
    rng = random.Random(11)
    found = firings(noisy, [event(seconds=n / 1_000, source=rng.choice("abc")) for n in range(200)])
    batches = [rng.sample(found, 60) for _ in range(8)]
    at_the_same_time(batches + batches)
    distinct = {firing.event_id for batch in batches for firing in batch}
    assert len(recorded(noisy)) == 5
    assert len(recorded(noisy)) + suppressed() == len(distinct)


def test_a_suppressed_firing_starts_its_cooldown(pipeline: redis.Redis) -> None:
    """Otherwise each further event of the group would fire, and would be counted, until the storm ends."""
    runtime.bind(replace(runtime.current(), storm_caps=StormCaps(per_series=1, per_rule=1)))
    row = rule(condition=GROUPED, cooldown_seconds=300)
    recording = record(firings(row, [event(source="a"), event(source="b")]))
    assert len({claim.key for claim in recording.cooldowns}) == 2


def test_anomalies_of_a_batch_are_stored_with_a_constant_number_of_statements(
    noisy: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.bind(replace(runtime.current(), storm_caps=StormCaps(per_series=200, per_rule=200)))
    counts = []
    for size in (1, 100):
        found = firings(noisy, orders(size))
        statements: list[str] = []
        execute = database.execute_sql

        def counted(sql: str, *arguments: Any, _statements: list[str] = statements, _run: Any = execute) -> Any:
            _statements.append(sql)
            return _run(sql, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(database, "execute_sql", counted)
            record(found)
        counts.append(len(statements))
    assert counts[0] == counts[1] < 20


def test_a_storm_of_anomalies_logs_few_lines(noisy: Rule) -> None:
    runtime.bind(replace(runtime.current(), storm_caps=StormCaps(per_series=100, per_rule=100)))
    with capture_logs() as logs:
        record(firings(noisy, orders(100)))
    assert [line["event"] for line in logs] == ["anomaly_recorded"] * 3 + ["further_anomalies_recorded"]
    assert logs[-1]["anomalies"] == 97


def test_slow_windows_are_not_read_again_for_a_while(noisy: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    """The triggering event is a sample, and the anomaly is recorded, even if its window cannot be read in time."""
    calls: list[int] = []

    def slow(*_: object) -> Any:
        calls.append(1)
        with database.atomic():
            database.execute_sql("SET LOCAL statement_timeout = 50")
            database.execute_sql("SELECT pg_sleep(20)")

    monkeypatch.setattr(evidence, "read_windows", slow)
    events = orders(2)
    with connection():
        Event.store(events)
    for each in events:
        record(firings(noisy, [each]))
    assert len(calls) == 1
    for anomaly, each in zip(recorded(noisy), events, strict=True):
        assert [sample["event_id"] for sample in anomaly.evidence["samples"]] == [msgspec.json.decode(each)["event_id"]]
        assert "count" not in anomaly.evidence
        assert "at least 1 events in 60 s" in anomaly.message


def test_the_count_of_a_large_window_is_a_lower_bound(noisy: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MAX_ROWS_OF_WINDOW", 4)
    events = orders(6)
    with connection():
        Event.store(events)
    record(firings(noisy, events)[-1:])
    (anomaly,) = recorded(noisy)
    assert (anomaly.evidence["count"], anomaly.evidence["count_is_lower_bound"]) == (4, True)
    assert "at least 4 events in 60 s, at least 1" in anomaly.message


def test_deliveries_are_created_for_each_anomaly_and_subscribed_channel(noisy: Rule) -> None:
    recording = record(firings(noisy, orders(3)))
    with connection():
        stored = {(delivery.anomaly_id, delivery.channel_name) for delivery in Delivery.select()}
    assert len(stored) == len(recording.deliveries) == 6


def at_the_same_time(batches: Sequence[Sequence[Firing]]) -> None:
    """Record each batch in its own thread."""
    barrier = threading.Barrier(len(batches))
    failures: list[BaseException] = []

    def work(batch: Sequence[Firing]) -> None:
        try:
            barrier.wait(10)
            record(batch)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []

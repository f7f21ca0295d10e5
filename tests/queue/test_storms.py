"""Tests of storms: the anomaly of each rule and minute, the mark of a rule, and exact counts in the whole pipeline."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import redis
from support.broker_factory import StartWorker
from support.firing_factory import ALWAYS, firings
from support.pipeline_factory import accept, event, idle, rule
from support.waiting import until

from actors import runtime
from actors.channels.notification import compose
from actors.pipeline.record_firings import record_firings
from actors.pipeline.storms import record_storms
from models.anomaly import Anomaly
from models.base import now
from models.database import connection, database
from models.delivery import Delivery
from models.rule import Rule
from rules.engine.storms import StormCaps
from schedules import retention

STORM_MINUTES = 5


@pytest.fixture
def noisy(pipeline: redis.Redis) -> Rule:
    """Store and return a rule without a cooldown that fires for each order; its caps are 2 per group and 3 in total."""
    runtime.bind(replace(runtime.current(), storm_caps=StormCaps(per_series=2, per_rule=3)))
    return rule(name="Noisy", condition={**ALWAYS, "group_by": ["source"]}, cooldown_seconds=0)


def suppress(row: Rule, count: int, minutes_ago: float = 1, source: str = "shop") -> None:
    """Suppress `count` firings of a rule, as if this had happened `minutes_ago`."""
    runtime.bind(replace(runtime.current(), storm_caps=StormCaps(per_series=0, per_rule=0)))
    record_firings(firings(row, [event(seconds=n / 1_000, source=source) for n in range(count)]), lambda _: None)
    with connection():
        database.execute_sql(
            "UPDATE storm_counts SET suppressed_at = %s WHERE suppressed_at > now() - interval '90 s'",
            (now() - timedelta(minutes=minutes_ago),),
        )


def end_minute(minutes: int = 1) -> None:
    """Move all counts and anomalies to an earlier minute."""
    with connection():
        for table, column in (("storm_counts", "suppressed_at"), ("anomalies", "detected_at")):
            statement = f"UPDATE {table} SET {column} = {column} - make_interval(mins => %s)"
            database.execute_sql(statement, (minutes,))


def storms() -> list[Anomaly]:
    with connection():
        return list(Anomaly.select().where(Anomaly.kind == "storm").order_by(Anomaly.detected_at))


def totals() -> tuple[int, int]:
    """Return the number of anomalies of single firings, and the sum of the firings of all storm anomalies."""
    with connection():
        recorded = Anomaly.select().where(Anomaly.kind == "firing").count()
    return recorded, sum(storm.evidence["observed"] for storm in storms())


def test_a_minute_of_suppressed_firings_becomes_one_storm_anomaly_with_its_groups(noisy: Rule) -> None:
    suppress(noisy, 30, source="a")
    suppress(noisy, 12, source="b")
    suppress(noisy, 5, source="a")
    assert record_storms(STORM_MINUTES) == 1
    (storm,) = storms()
    assert storm.message == "Noisy: 47 further firings in 60 s, 2 groups, top source=a (35), source=b (12)"
    assert (storm.rule_id, storm.rule_version, storm.severity) == (noisy.rule_id, 1, "critical")
    assert storm.evidence["top_groups"][0] == {"group_key": '{"source":"a"}', "firings": 35}
    assert storm.evidence["groups"] == 2
    assert record_storms(STORM_MINUTES) == 0, "each firing is reported once"


def test_the_current_minute_is_not_reported_before_it_ends(noisy: Rule) -> None:
    suppress(noisy, 3, minutes_ago=0)
    with connection():
        database.execute_sql("UPDATE storm_counts SET suppressed_at = date_trunc('minute', now()) + interval '1 min'")
    assert record_storms(STORM_MINUTES) == 0
    end_minute(2)
    assert record_storms(STORM_MINUTES) == 1


def test_a_rule_has_at_most_one_storm_anomaly_in_a_minute(noisy: Rule) -> None:
    suppress(noisy, 3)
    record_storms(STORM_MINUTES)
    suppress(noisy, 4)
    with connection():
        Anomaly.update(detected_at=now()).execute()
    assert record_storms(STORM_MINUTES) == 0
    end_minute()
    assert record_storms(STORM_MINUTES) == 1
    assert [storm.evidence["observed"] for storm in storms()] == [3, 4]


def test_each_rule_has_its_own_storm_anomaly(noisy: Rule) -> None:
    other = rule(name="Other", condition=ALWAYS, cooldown_seconds=0, severity="info")
    suppress(noisy, 3)
    suppress(other, 4)
    assert record_storms(STORM_MINUTES) == 2
    assert {(storm.rule_name, storm.severity, storm.message) for storm in storms()} == {
        ("Noisy", "critical", "Noisy: 3 further firings in 60 s, 1 group, top source=shop (3)"),
        ("Other", "info", "Other: 4 further firings in 60 s"),
    }


def test_two_schedulers_report_each_firing_once(noisy: Rule) -> None:
    suppress(noisy, 9)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(record_storms, [STORM_MINUTES] * 4))
    assert sorted(outcomes) == [0, 0, 0, 1]
    assert totals() == (0, 9)


def test_if_the_anomaly_cannot_be_stored_the_firings_are_reported_later(
    noisy: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    suppress(noisy, 9)
    with monkeypatch.context() as patch:
        patch.setattr(Delivery, "create_missing", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            record_storms(STORM_MINUTES)
    assert record_storms(STORM_MINUTES) == 1
    assert totals() == (0, 9)


def test_after_an_outage_of_the_scheduler_all_minutes_are_in_one_storm_anomaly(noisy: Rule) -> None:
    suppress(noisy, 3, minutes_ago=7)
    suppress(noisy, 4, minutes_ago=2)
    assert record_storms(STORM_MINUTES) == 1
    assert storms()[0].message.startswith("Noisy: 7 further firings in 360 s")


def test_a_storm_is_delivered_to_the_channels_of_its_severity(
    noisy: Rule, pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    suppress(noisy, 9)
    start_worker()
    record_storms(STORM_MINUTES)
    until(lambda: idle(pipeline))
    with connection():
        deliveries = {(delivery.channel_name, delivery.status) for delivery in Delivery.select()}
    assert deliveries == {("console", "delivered"), ("live", "delivered")}
    notification = compose(storms()[0], "http://eventpulse", None)
    assert (notification.observed, notification.window_seconds, notification.group) == ("9", 60, {})
    assert notification.threshold == "at most 0 anomalies per group and 0 per rule in 60 s"


def test_a_rule_that_storms_for_some_minutes_is_marked_until_the_storm_ends(noisy: Rule) -> None:
    for minute in range(1, STORM_MINUTES + 1):
        suppress(noisy, 1)
        record_storms(STORM_MINUTES)
        storm = storms()[-1]
        assert storm.evidence["storming"] == (minute >= STORM_MINUTES)
        assert ("storming since" in storm.message) == (minute >= STORM_MINUTES)
        assert (mark(noisy) is not None) == (minute >= STORM_MINUTES)
        end_minute()
        move_start()
    end_minute(2)
    assert mark(noisy) is None


def test_a_changed_rule_is_not_marked(noisy: Rule) -> None:
    suppress(noisy, 1)
    record_storms(1)
    assert mark(noisy) is not None
    with connection():
        assert noisy.change(cooldown_seconds=300)
        assert mark(Rule.get_by_id(noisy.rule_id)) is None


def test_a_new_storm_has_a_new_start(noisy: Rule) -> None:
    suppress(noisy, 1)
    record_storms(1)
    end_minute(10)
    suppress(noisy, 1)
    record_storms(STORM_MINUTES)
    assert not storms()[-1].evidence["storming"]


def test_counts_are_exact_with_two_workers_redeliveries_and_duplicates(
    noisy: Rule, pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    events = [event(seconds=-n / 1_000, source="abc"[n % 3]) for n in range(300)]
    start_worker()
    start_worker()
    for _ in range(2):  # the second round has the same effect as a worker crash before the acknowledgement
        for start in range(0, 300, 50):
            accept(*events[start : start + 60])
        until(lambda: idle(pipeline))
    end_minute()
    record_storms(STORM_MINUTES)
    assert totals() == (3, 297)


def test_suppressed_firings_are_deleted_after_the_time_of_redeliveries(noisy: Rule) -> None:
    suppress(noisy, 3)
    assert retention.drop_old_suppressed_firings() == 0
    with connection():
        database.execute_sql("UPDATE suppressed_firings SET suppressed_at = suppressed_at - interval '61 min'")
    suppress(noisy, 2)
    assert retention.drop_old_suppressed_firings() == 3


def mark(row: Rule) -> datetime | None:
    """Return the start of the storm if the rule is marked as storming."""
    with connection():
        storm = Anomaly.current_storms([row.rule_id]).get(row.rule_id)
    return storm.since if storm and storm.marks(row.version) else None


def move_start() -> None:
    """Move the start of all storms to an earlier minute, as `end_minute` does with the other times."""
    with connection():
        for anomaly in storms():
            since = datetime.fromisoformat(anomaly.evidence["since"]) - timedelta(minutes=1)
            evidence = anomaly.evidence | {"since": since.isoformat()}
            Anomaly.update(evidence=evidence).where(Anomaly.anomaly_id == anomaly.anomaly_id).execute()

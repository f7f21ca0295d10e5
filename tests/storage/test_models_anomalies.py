"""Anomalies, the channels that want them, and the state of each delivery."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from models.anomaly import Anomaly
from models.base import now
from models.channel import Channel
from models.database import connection, database
from models.delivery import OVERDUE_SECONDS, Delivery

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
COOLDOWN = timedelta(seconds=300)


def record(dedupe_key: str = "rule:group:event", message: str = "6 errors in 60 s", second: int = 0) -> Anomaly:
    return Anomaly.record(
        COOLDOWN,
        dedupe_key=dedupe_key,
        series="rule:group",
        cooldown_anchor=NOON + timedelta(seconds=second),
        rule_id=uuid4(),
        rule_name="High error rate",
        rule_version=1,
        severity="critical",
        group_key="source=payments",
        event_id=uuid4(),
        message=message,
        evidence={"count": 6},
        occurred_at=now(),
    )


@pytest.fixture
def delivery(db) -> Delivery:
    """One anomaly, pending for one channel."""
    channel = Channel.create(name="ops", kind="slack", minimum_severity="critical")
    (planned,) = Delivery.plan(record(), [channel])
    return planned


def claim(delivery: Delivery) -> Delivery | None:
    return Delivery.claim(delivery.anomaly_id, delivery.channel_id)


def postpone(delivery: Delivery, seconds: float, reason: str = "busy") -> None:
    Delivery.postpone(delivery.anomaly_id, delivery.channel_id, seconds, reason)


def stored(delivery: Delivery) -> Delivery:
    return Delivery.get(Delivery.anomaly == delivery.anomaly_id, Delivery.channel_id == delivery.channel_id)


def test_the_same_finding_is_one_anomaly(db):
    first, again = record(message="first"), record(message="again")
    assert first == again
    assert again.message == "first"
    assert Anomaly.select().count() == 1


@pytest.mark.parametrize(("second", "speaks"), [(-300, True), (-299, False), (299, False), (300, True)])
def test_the_anomalies_of_a_series_are_a_cooldown_apart_in_whatever_order_they_come(db, second, speaks):
    first, other = record("first"), record("other", second=second)
    assert (other != first) == speaks


def test_a_channel_hears_its_minimum_severity_and_worse(db):
    Channel.create(name="ops", kind="slack", minimum_severity="warning")
    Channel.create(name="muted", kind="slack", enabled=False)
    assert {channel.name for channel in Channel.subscribed_to("info")} == {"console", "live"}
    assert {channel.name for channel in Channel.subscribed_to("warning")} == {"console", "live", "ops"}
    assert {channel.name for channel in Channel.subscribed_to("critical")} == {"console", "live", "ops"}


def test_planning_again_adds_no_second_delivery(db):
    anomaly, channels = record(), Channel.subscribed_to("critical")
    first, again = Delivery.plan(anomaly, channels), Delivery.plan(anomaly, channels)
    assert len(first) == len(again) == len(channels)
    assert Delivery.select().count() == len(channels)


def test_planning_for_no_channel_plans_nothing(db):
    assert Delivery.plan(record(), []) == []


def test_a_claimed_delivery_is_refused_to_everybody_else(delivery):
    assert claim(delivery).attempts == 1
    assert claim(delivery) is None


def test_the_claim_of_a_dead_worker_lapses(delivery):
    claim(delivery)
    Delivery.update(due_at=now() - timedelta(seconds=1)).execute()
    assert claim(delivery).attempts == 2


def test_what_is_delivered_or_refused_is_never_claimed_again(delivery):
    claim(delivery).delivered("ok 200")
    assert (stored(delivery).status, stored(delivery).receipt) == ("delivered", "ok 200")
    assert stored(delivery).delivered_at is not None
    assert claim(delivery) is None
    stored(delivery).refused("channel_not_found")
    assert claim(delivery) is None
    assert Delivery.plan(Anomaly.get(), [Channel.get(Channel.name == "ops")]) == []


def test_a_postponed_delivery_keeps_its_reason_and_can_be_claimed_again(delivery):
    claim(delivery)
    postpone(delivery, 30, "429: rate limited")
    assert (stored(delivery).status, stored(delivery).last_error) == ("pending", "429: rate limited")
    assert claim(delivery) is not None


def test_success_clears_the_last_error(delivery):
    claim(delivery)
    postpone(delivery, 0, "timeout")
    claim(delivery).delivered("ok")
    assert stored(delivery).last_error is None


def test_a_dead_delivery_is_claimed_by_its_replay(delivery):
    Delivery.update(status="dead").execute()
    assert claim(delivery).status == "sending"


def test_a_delivery_nobody_planned_cannot_be_claimed(db):
    assert Delivery.claim(uuid4(), UUID(int=1)) is None


def test_a_delivery_is_overdue_when_its_time_is_long_past_and_then_not_at_once_again(delivery):
    assert Delivery.overdue() == []
    Delivery.update(due_at=now() - timedelta(seconds=OVERDUE_SECONDS + 1)).execute()
    assert Delivery.overdue() == [delivery]
    assert Delivery.overdue() == []


@pytest.mark.parametrize("status", ["delivered", "rejected", "dead"])
def test_what_is_done_is_never_overdue(delivery, status):
    Delivery.update(status=status, due_at=now() - timedelta(days=1)).execute()
    assert Delivery.overdue() == []


def test_a_delivery_that_somebody_is_at_is_not_put_off(delivery):
    """Or a second message for it would find it free, and send it twice."""
    claim(delivery)
    Delivery.snooze(delivery.anomaly_id, delivery.channel_id, 30)
    assert stored(delivery).status == "sending"
    assert claim(delivery) is None


def test_a_delivery_that_waits_is_put_off(delivery):
    Delivery.snooze(delivery.anomaly_id, delivery.channel_id, 3_600)
    assert (stored(delivery).status, stored(delivery).due_at > now() + timedelta(minutes=59)) == ("pending", True)


def test_a_postponed_delivery_is_overdue_only_after_its_pause(delivery):
    postpone(delivery, 3_600)
    assert Delivery.overdue() == []


def test_two_workers_that_find_the_same_at_once_record_one_anomaly(db, database_url):
    """The second waits for the first, then finds that the series is to be quiet."""
    together = threading.Barrier(2)

    def find(dedupe_key: str) -> None:
        with connection(), database.atomic():
            together.wait(5)
            record(dedupe_key)

    finders = [threading.Thread(target=find, args=(name,)) for name in ("one", "other")]
    for finder in finders:
        finder.start()
    for finder in finders:
        finder.join(10)
    assert Anomaly.select().count() == 1


def test_deleting_an_anomaly_deletes_its_deliveries(delivery):
    Anomaly.delete().execute()
    assert Delivery.select().count() == 0

"""Anomalies, the channels that want them, and the state of each delivery."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from models.anomaly import Anomaly
from models.base import now
from models.channel import Channel
from models.delivery import CLAIM_SECONDS, Delivery

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
COOLDOWN = timedelta(seconds=300)


def record(dedupe: str = "rule:group:event", message: str = "6 errors in 60 s", second: int = 0) -> Anomaly:
    return Anomaly.record(
        COOLDOWN,
        dedupe=dedupe,
        series="rule:group",
        quiet_around=NOON + timedelta(seconds=second),
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


def claim(delivery: Delivery, claimant: str) -> Delivery | None:
    return Delivery.claim(delivery.anomaly_id, delivery.channel_id, claimant)


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
    assert {channel.name for channel in Channel.concerned("info")} == {"console", "live"}
    assert {channel.name for channel in Channel.concerned("warning")} == {"console", "live", "ops"}
    assert {channel.name for channel in Channel.concerned("critical")} == {"console", "live", "ops"}


def test_planning_again_adds_no_second_delivery(db):
    anomaly, channels = record(), Channel.concerned("critical")
    first, again = Delivery.plan(anomaly, channels), Delivery.plan(anomaly, channels)
    assert len(first) == len(again) == len(channels)
    assert Delivery.select().count() == len(channels)


def test_planning_for_no_channel_plans_nothing(db):
    assert Delivery.plan(record(), []) == []


def test_a_claimed_delivery_is_refused_to_another_message_and_given_again_to_the_same(delivery):
    assert claim(delivery, "message-1").attempts == 1
    assert claim(delivery, "message-2") is None
    assert claim(delivery, "message-1").attempts == 2


def test_the_claim_of_a_dead_worker_lapses(delivery):
    claim(delivery, "message-1")
    Delivery.update(claimed_at=now() - timedelta(seconds=CLAIM_SECONDS + 1)).execute()
    assert claim(delivery, "message-2").claimed_by == "message-2"


def test_what_is_delivered_or_refused_is_never_claimed_again(delivery):
    claim(delivery, "message-1").delivered("ok 200")
    assert (stored(delivery).status, stored(delivery).receipt) == ("delivered", "ok 200")
    assert stored(delivery).delivered_at is not None
    assert claim(delivery, "message-1") is None
    stored(delivery).refused("channel_not_found")
    assert claim(delivery, "message-1") is None
    assert Delivery.plan(Anomaly.get(), [Channel.get(Channel.name == "ops")]) == []


def test_a_postponed_delivery_keeps_its_reason_and_can_be_claimed_by_any_message(delivery):
    claim(delivery, "message-1").postponed("429: rate limited")
    assert stored(delivery).last_error == "429: rate limited"
    assert claim(delivery, "message-2") is not None


def test_success_clears_the_last_error(delivery):
    claim(delivery, "message-1").postponed("timeout")
    claim(delivery, "message-1").delivered("ok")
    assert stored(delivery).last_error is None


def test_a_dead_delivery_is_claimed_by_its_replay(delivery):
    Delivery.update(status="dead").execute()
    assert claim(delivery, "replay").status == "sending"


def test_a_delivery_nobody_planned_cannot_be_claimed(db):
    assert Delivery.claim(uuid4(), UUID(int=1), "message") is None


def test_deleting_an_anomaly_deletes_its_deliveries(delivery):
    Anomaly.delete().execute()
    assert Delivery.select().count() == 0

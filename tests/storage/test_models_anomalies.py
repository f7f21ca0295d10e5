"""Tests of the channels that subscribe to anomalies, and of the states of a delivery."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from models.anomaly import Anomaly
from models.base import now
from models.channel import Channel
from models.delivery import OVERDUE_SECONDS, Delivery

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def record() -> Anomaly:
    """Store and return an anomaly."""
    created: Anomaly = Anomaly.create(
        dedupe_key="rule:group:event",
        series="rule:group",
        cooldown_anchor=NOON,
        rule_id=uuid4(),
        rule_name="High error rate",
        rule_version=1,
        severity="critical",
        group_key="source=payments",
        event_id=uuid4(),
        message="6 errors in 60 s",
        evidence={"count": 6},
        occurred_at=now(),
    )
    return created


@pytest.fixture
def delivery(db: None) -> Delivery:
    """Create and return a pending delivery of an anomaly to a channel."""
    channel = Channel.create(name="ops", kind="slack", minimum_severity="critical")
    (created,) = Delivery.create_missing([record().anomaly_id], [channel])
    return created


def key(delivery: Delivery) -> tuple[UUID, UUID]:
    return delivery.anomaly_id, delivery.channel_id


def claim(delivery: Delivery) -> Delivery:
    """Claim and return a delivery that is not claimed yet."""
    claimed = Delivery.claim(*key(delivery))
    assert claimed is not None
    return claimed


def reschedule(delivery: Delivery, seconds: float, reason: str = "busy") -> None:
    Delivery.reschedule(*key(delivery), seconds, reason)


def stored(delivery: Delivery) -> Delivery:
    """Return the current state of the delivery in PostgreSQL."""
    found: Delivery = Delivery.get(Delivery.anomaly == delivery.anomaly_id, Delivery.channel_id == delivery.channel_id)
    return found


@pytest.mark.usefixtures("db")
def test_a_channel_subscribes_to_its_minimum_severity_and_above() -> None:
    Channel.create(name="ops", kind="slack", minimum_severity="warning")
    Channel.create(name="disabled", kind="slack", enabled=False)
    assert {channel.name for channel in Channel.subscribed_to("info")} == {"console", "live"}
    assert {channel.name for channel in Channel.subscribed_to("warning")} == {"console", "live", "ops"}
    assert {channel.name for channel in Channel.subscribed_to("critical")} == {"console", "live", "ops"}


@pytest.mark.usefixtures("db")
def test_existing_deliveries_are_not_created_again() -> None:
    ids, channels = [record().anomaly_id], Channel.subscribed_to("critical")
    first, again = Delivery.create_missing(ids, channels), Delivery.create_missing(ids, channels)
    assert len(first) == len(again) == len(channels)
    assert Delivery.select().count() == len(channels)


@pytest.mark.usefixtures("db")
def test_without_channels_no_delivery_is_created() -> None:
    assert Delivery.create_missing([record().anomaly_id], []) == []


def test_a_claimed_delivery_cannot_be_claimed_again(delivery: Delivery) -> None:
    assert claim(delivery).attempts == 1
    assert Delivery.claim(*key(delivery)) is None


def test_an_expired_claim_can_be_taken_over(delivery: Delivery) -> None:
    claim(delivery)
    Delivery.update(due_at=now() - timedelta(seconds=1)).execute()
    assert claim(delivery).attempts == 2


def test_a_settled_delivery_is_never_claimed_again(delivery: Delivery) -> None:
    claim(delivery)
    Delivery.record_delivered(*key(delivery), "ok 200", "reference-1")
    settled = stored(delivery)
    assert (settled.status, settled.receipt, settled.reference) == ("delivered", "ok 200", "reference-1")
    assert settled.delivered_at is not None
    assert Delivery.claim(*key(delivery)) is None
    Delivery.record_rejected(*key(delivery), "channel_not_found")
    assert Delivery.claim(*key(delivery)) is None
    assert Delivery.create_missing([Anomaly.get().anomaly_id], [Channel.get(Channel.name == "ops")]) == []


def test_a_rescheduled_delivery_keeps_its_reason_and_can_be_claimed_again(delivery: Delivery) -> None:
    claim(delivery)
    reschedule(delivery, 30, "429: rate limited")
    assert (stored(delivery).status, stored(delivery).last_error) == ("pending", "429: rate limited")
    claim(delivery)


def test_a_success_clears_the_last_error(delivery: Delivery) -> None:
    claim(delivery)
    reschedule(delivery, 0, "timeout")
    claim(delivery)
    Delivery.record_delivered(*key(delivery), "ok")
    assert stored(delivery).last_error is None


def test_a_replay_claims_a_dead_delivery(delivery: Delivery) -> None:
    Delivery.update(status="dead").execute()
    assert claim(delivery).status == "sending"


def test_a_settled_delivery_is_not_marked_dead(delivery: Delivery) -> None:
    Delivery.record_delivered(*key(delivery), "ok")
    Delivery.mark_dead(*key(delivery), "Retry: timeout")
    assert stored(delivery).status == "delivered"


@pytest.mark.usefixtures("db")
def test_a_delivery_that_does_not_exist_cannot_be_claimed() -> None:
    assert Delivery.claim(uuid4(), UUID(int=1)) is None


def test_an_overdue_delivery_is_taken_once(delivery: Delivery) -> None:
    assert Delivery.take_overdue() == []
    Delivery.update(due_at=now() - timedelta(seconds=OVERDUE_SECONDS + 1)).execute()
    assert Delivery.take_overdue() == [key(delivery)]
    assert Delivery.take_overdue() == []


@pytest.mark.usefixtures("db")
def test_the_longest_overdue_deliveries_are_taken_first() -> None:
    Delivery.create_missing([record().anomaly_id], Channel.subscribed_to("critical"))
    for age_seconds, name in ((60, "console"), (90, "live")):
        due_at = now() - timedelta(seconds=age_seconds)
        Delivery.update(due_at=due_at).where(Delivery.channel_name == name).execute()
    live = Channel.get(Channel.name == "live").channel_id
    assert [channel_id for _, channel_id in Delivery.take_overdue(limit=1)] == [live]


@pytest.mark.parametrize("status", ["delivered", "rejected", "dead"])
def test_a_settled_delivery_is_never_overdue(delivery: Delivery, status: str) -> None:
    Delivery.update(status=status, due_at=now() - timedelta(days=1)).execute()
    assert Delivery.take_overdue() == []


def test_a_claimed_delivery_is_not_snoozed(delivery: Delivery) -> None:
    """If a claimed delivery were snoozed, a second message could claim the delivery and send it again."""
    claim(delivery)
    Delivery.snooze(*key(delivery), 30)
    assert stored(delivery).status == "sending"
    assert Delivery.claim(*key(delivery)) is None


def test_a_pending_delivery_is_snoozed(delivery: Delivery) -> None:
    Delivery.snooze(*key(delivery), 3_600)
    assert (stored(delivery).status, stored(delivery).due_at > now() + timedelta(minutes=59)) == ("pending", True)


def test_a_rescheduled_delivery_is_not_overdue_before_its_time(delivery: Delivery) -> None:
    reschedule(delivery, 3_600)
    assert Delivery.take_overdue() == []


def test_deliveries_are_deleted_with_their_anomaly(delivery: Delivery) -> None:
    Anomaly.delete().execute()
    assert Delivery.select().count() == 0

"""Tests of the queue of a channel: the order of claims, the states of a delivery, digests and the maximum age."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg2
import pytest
import time_machine

from models import delivery_queue
from models.anomaly import Anomaly
from models.base import now
from models.channel import Channel
from models.database import database
from models.delivery import Delivery
from models.delivery_queue import OVERDUE_SECONDS, ClaimedDelivery

pytestmark = pytest.mark.usefixtures("db")


def add(channel: Channel, severity: str = "critical", rule_name: str = "Errors", age_seconds: float = 0) -> UUID:
    """Store an anomaly and its pending delivery to the channel, and return the id of the anomaly."""
    anomaly = Anomaly.create(
        dedupe_key=str(uuid4()),
        rule_id=uuid4(),
        rule_name=rule_name,
        rule_version=1,
        severity=severity,
        group_key="{}",
        event_id=uuid4(),
        message="6 errors",
        evidence={},
        series="s",
        cooldown_anchor=datetime(2026, 11, 20, tzinfo=UTC),
        occurred_at=now(),
    )
    Delivery.create_missing([anomaly.anomaly_id], [channel])
    queued_at = now() - timedelta(seconds=age_seconds)
    Delivery.update(queued_at=queued_at, due_at=queued_at).where(Delivery.anomaly == anomaly).execute()
    return anomaly.anomaly_id


@pytest.fixture
def channel(db: None) -> Channel:
    return Channel.create(name="ops", kind="slack")


def claim(channel: Channel) -> ClaimedDelivery:
    (claimed,) = delivery_queue.claim(channel.channel_id)
    return claimed


def stored(anomaly_id: UUID) -> Delivery:
    return Delivery.get(Delivery.anomaly == anomaly_id)


def expire_claims() -> None:
    Delivery.update(due_at=now() - timedelta(seconds=1)).where(Delivery.status == "sending").execute()


def test_the_most_severe_delivery_is_claimed_first_and_then_the_oldest(channel: Channel) -> None:
    ages = {
        name: add(channel, severity, age_seconds=age)
        for name, severity, age in (
            ("old info", "info", 90),
            ("warning", "warning", 1),
            ("new critical", "critical", 0),
            ("critical", "critical", 60),
        )
    }
    order = [claim(channel).anomaly_id for _ in ages]
    assert order == [ages[name] for name in ("critical", "new critical", "warning", "old info")]
    assert delivery_queue.claim(channel.channel_id) == []


def test_a_probe_of_a_channel_that_fails_for_long_takes_the_delivery_with_the_fewest_attempts(channel: Channel) -> None:
    poison, other = add(channel), add(channel, "info")
    delivery_queue.release(claim(channel), 0, "status 500")
    assert claim(channel).anomaly_id == poison
    expire_claims()
    (found,) = delivery_queue.claim(channel.channel_id, fewest_attempts_first=True)
    assert found.anomaly_id == other


def test_a_claimed_delivery_is_claimed_again_only_after_its_claim_has_expired(channel: Channel) -> None:
    add(channel)
    assert claim(channel).attempts == 1
    with time_machine.travel(now() + timedelta(seconds=61)):  # a worker whose clock is ahead
        assert delivery_queue.claim(channel.channel_id) == []
    assert 10 < (delivery_queue.next_due_seconds(channel.channel_id) or 0) <= 15
    expire_claims()
    assert claim(channel).attempts == 2


def test_a_delivery_that_another_worker_is_claiming_is_skipped(channel: Channel, database_url: str) -> None:
    first, second = add(channel, age_seconds=5), add(channel)
    other = psycopg2.connect(database_url)
    with other.cursor() as cursor:
        cursor.execute("SELECT FROM deliveries WHERE anomaly_id = %s FOR UPDATE", (str(first),))
        assert claim(channel).anomaly_id == second
    other.close()


def test_a_settled_delivery_is_never_claimed_again(channel: Channel) -> None:
    anomaly_id = add(channel)
    key = (anomaly_id, channel.channel_id)
    claim(channel)
    Delivery.record_delivered([anomaly_id], channel.channel_id, "ok 200", "reference-1")
    settled = stored(anomaly_id)
    assert (settled.status, settled.receipt, settled.reference) == ("delivered", "ok 200", "reference-1")
    assert settled.delivered_at is not None
    assert delivery_queue.claim(channel.channel_id) == []
    Delivery.mark_dead(*key, "Retry: timeout")
    delivery_queue.revive(*key)
    delivery_queue.release(ClaimedDelivery(*key, 1), 0, "late")
    assert stored(anomaly_id).status == "delivered"


def test_a_released_delivery_keeps_its_reason_until_it_is_delivered(channel: Channel) -> None:
    anomaly_id = add(channel)
    delivery_queue.release(claim(channel), 0, "429: rate limited")
    assert (stored(anomaly_id).status, stored(anomaly_id).last_error) == ("pending", "429: rate limited")
    Delivery.record_delivered([claim(channel).anomaly_id], channel.channel_id, "ok")
    assert stored(anomaly_id).last_error is None


def test_a_snoozed_delivery_is_not_due(channel: Channel) -> None:
    add(channel)
    delivery_queue.release(claim(channel), 600, "status 500")
    assert delivery_queue.claim(channel.channel_id) == []
    assert 590 < (delivery_queue.next_due_seconds(channel.channel_id) or 0) <= 600


def test_several_deliveries_are_claimed_together_in_the_order_of_the_queue(channel: Channel) -> None:
    expected = [
        add(channel, severity, age_seconds=age) for severity, age in (("critical", 9), ("critical", 5), ("info", 60))
    ]
    add(channel, "info", age_seconds=1)
    assert [claimed.anomaly_id for claimed in delivery_queue.claim(channel.channel_id, limit=3)] == expected


def test_an_empty_queue_has_no_next_delivery(channel: Channel) -> None:
    assert delivery_queue.claim(channel.channel_id) == []
    assert delivery_queue.next_due_seconds(channel.channel_id) is None
    assert delivery_queue.backlog(channel.channel_id) == (0, None)


def test_a_channel_is_behind_if_deliveries_that_are_not_critical_wait_for_long(channel: Channel) -> None:
    for severity, age in (("info", 31), ("warning", 40), ("info", 29), ("critical", 300)):
        add(channel, severity, age_seconds=age)
    assert delivery_queue.is_behind(channel.channel_id, 30, more_than=1)
    assert not delivery_queue.is_behind(channel.channel_id, 30, more_than=2)
    assert delivery_queue.has_critical(channel.channel_id)


def test_a_digest_takes_all_waiting_deliveries_except_critical_ones(channel: Channel) -> None:
    members = [add(channel, "info"), add(channel, "info", "Errors"), add(channel, "warning", "Slow")]
    critical = add(channel)
    digest = delivery_queue.claim_digest(channel.channel_id)
    assert digest
    assert [(group.rule_name, group.severity, group.size) for group in digest.groups] == [
        ("Errors", "info", 2),
        ("Slow", "warning", 1),
    ]
    assert delivery_queue.claim_digest(channel.channel_id) is None
    delivery_queue.record_digest_delivered(digest, "ok", "reference-1")
    for anomaly_id in members:
        delivery = stored(anomaly_id)
        assert (delivery.status, delivery.attempts, delivery.digest_id) == ("delivered", 1, digest.digest_id)
        assert (delivery.receipt, delivery.reference) == (f"in digest {digest.digest_id}: ok", "reference-1")
    assert stored(critical).status == "pending"


def test_the_deliveries_of_a_failed_digest_are_due_again(channel: Channel) -> None:
    anomaly_id = add(channel, "info")
    digest = delivery_queue.claim_digest(channel.channel_id)
    assert digest
    delivery_queue.release_digest(digest, "status 503")
    assert (stored(anomaly_id).status, stored(anomaly_id).digest_id) == ("pending", None)
    assert claim(channel).attempts == 2


def test_all_waiting_deliveries_of_a_deleted_channel_are_rejected(channel: Channel) -> None:
    anomaly_id = add(channel)
    assert delivery_queue.reject_all(channel.channel_id, "the channel was deleted") == 1
    assert (stored(anomaly_id).status, stored(anomaly_id).last_error) == ("rejected", "the channel was deleted")


def test_a_channel_with_an_overdue_delivery_is_overdue(channel: Channel) -> None:
    add(channel)
    assert delivery_queue.overdue_channels() == []
    Delivery.update(due_at=now() - timedelta(seconds=OVERDUE_SECONDS + 1)).execute()
    assert delivery_queue.overdue_channels() == [channel.channel_id]


@pytest.mark.parametrize("status", ["delivered", "rejected", "dead"])
def test_a_settled_delivery_is_neither_overdue_nor_expired(channel: Channel, status: str) -> None:
    add(channel, age_seconds=100_000)
    Delivery.update(status=status, attempts=1).execute()
    assert delivery_queue.overdue_channels() == []
    assert delivery_queue.expire(3600, 10) == []


def test_a_delivery_expires_by_age_and_never_by_the_number_of_attempts(channel: Channel) -> None:
    young, old = add(channel, age_seconds=86_300), add(channel, age_seconds=86_500)
    Delivery.update(attempts=10_000, last_error="status 503").where(Delivery.anomaly == young).execute()
    Delivery.update(attempts=1, last_error="status 503").where(Delivery.anomaly == old).execute()
    assert [expired.anomaly_id for expired in delivery_queue.expire(86_400, 10)] == [old]
    assert (stored(old).status, stored(old).last_error) == ("dead", "status 503")
    delivery_queue.revive(old, channel.channel_id)
    assert stored(old).status == "pending"
    assert delivery_queue.expire(86_400, 10) == []


def test_an_old_delivery_that_was_never_tried_does_not_expire(channel: Channel) -> None:
    """All workers may have been stopped for a day."""
    add(channel, age_seconds=100_000)
    assert delivery_queue.expire(86_400, 10) == []


def test_the_backlog_of_a_channel_is_counted_with_its_age(channel: Channel) -> None:
    add(channel, age_seconds=40)
    add(channel)
    waiting, age = delivery_queue.backlog(channel.channel_id)
    assert waiting == 2
    assert age == pytest.approx(40, abs=5)


def test_a_delivery_from_a_worker_of_an_earlier_version_gets_the_rank_of_its_anomaly(channel: Channel) -> None:
    anomaly_id = add(channel, "warning")
    database.execute_sql("UPDATE deliveries SET severity_rank = 7")
    database.execute_sql(
        """INSERT INTO deliveries (anomaly_id, channel_id, channel_name, status, attempts, due_at, created_at)
        SELECT anomaly_id, gen_random_uuid(), channel_name, status, attempts, due_at, created_at FROM deliveries"""
    )
    ranks = [each.severity_rank for each in Delivery.select().where(Delivery.anomaly == anomaly_id)]
    assert sorted(ranks) == [1, 7]

"""Tests of the channels that subscribe to anomalies, and of their deliveries."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from models.anomaly import Anomaly
from models.base import now
from models.channel import Channel
from models.delivery import Delivery

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


@pytest.mark.usefixtures("db")
def test_deliveries_are_deleted_with_their_anomaly() -> None:
    Delivery.create_missing([record().anomaly_id], Channel.subscribed_to("critical"))
    Anomaly.delete().execute()
    assert Delivery.select().count() == 0

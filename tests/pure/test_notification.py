"""Tests of the notification of an anomaly: numbers, counts and subject."""

from typing import Any

import pytest
from uuid_utils.compat import uuid7

from actors.channels.notification import compose
from models.anomaly import Anomaly
from models.base import now
from notifiers.base import Notification


def notification(**evidence: Any) -> Notification:
    """Return the notification of an anomaly with this evidence."""
    anomaly = Anomaly(
        rule_id=uuid7(),
        rule_name="High error rate",
        severity="critical",
        group_key="{}",
        event_id=uuid7(),
        message="High error rate: 6 events in 60 s",
        occurred_at=now(),
        evidence={"samples": [], **evidence},
    )
    return compose(anomaly, "https://events.example", runbook_url=None)


@pytest.mark.parametrize(
    ("value", "text"), [(6, "6"), (1_800_000, "1800000"), (1_800_000.0, "1800000"), (0.25, "0.25"), (-3.0, "-3")]
)
def test_values_are_written_without_an_exponent(value: float, text: str) -> None:
    shown = notification(observed=value, threshold=value)
    assert (shown.observed, shown.threshold) == (text, text)


def test_a_large_exact_count_is_shown_in_place_of_the_lower_bound() -> None:
    assert notification(observed=6, threshold=5, limit="more than 5", count=1_800_000).observed == "1800000"


def test_the_lower_bound_is_shown_if_the_exact_count_is_unknown() -> None:
    shown = notification(observed=6, threshold=5, limit="more than 5")
    assert (shown.observed, shown.threshold) == ("6", "more than 5")


def test_the_subject_is_the_anomaly() -> None:
    shown = notification(observed=6, threshold=5)
    assert (shown.kind, shown.subject_key) == ("alert", f"anomaly:{shown.anomaly_id}")
    assert shown.link == f"https://events.example/api/v1/anomalies/{shown.anomaly_id}"

"""Tests of the conditions without a window: invalid_payload and timestamp_drift."""

from datetime import UTC, datetime
from typing import Any

import pytest
from support.rule_factory import at, decide, event, fired, rule

from rules.engine.explain import explain
from rules.windows.memory import MemoryWindow

REQUIRED = {"payment": ["amount", "customer.id"], "refund": ["amount"]}
PAYLOAD = rule({"type": "invalid_payload", "required_fields": REQUIRED})
DRIFT: dict[str, Any] = {"type": "timestamp_drift", "max_drift_seconds": 30}
YEAR_9999 = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("payload", "missing"),
    [
        ({"amount": 1, "customer": {"id": 7}}, None),
        ({"amount": 0, "customer": {"id": ""}}, None),
        ({"customer": {"id": 7}}, "amount"),
        ({"amount": None, "customer": {"id": 7}}, "amount"),
        ({"amount": 1, "customer": 7}, "customer.id"),
        ({}, "amount, customer.id"),
    ],
)
def test_a_payload_without_a_required_field_fires(payload: dict[str, Any], missing: str | None) -> None:
    found = decide([event(1, event_type="payment", payload=payload)], MemoryWindow(), PAYLOAD).firings
    reasons = (
        []
        if missing is None
        else [f"required fields missing from the payload: {missing} (event_type=payment, source=shop)"]
    )
    assert [firing.verdict.reason for firing in found] == reasons


def test_event_types_that_are_not_listed_need_no_field() -> None:
    assert fired([event(1, event_type="order")], MemoryWindow(), PAYLOAD) == []


def test_the_evidence_of_an_invalid_payload_is_the_event_alone() -> None:
    (firing,) = decide([event(1, event_type="refund")], MemoryWindow(), PAYLOAD).firings
    assert firing.selection is None
    assert firing.group == {"event_type": "refund", "source": "shop"}
    assert (firing.verdict.observed, firing.verdict.details) == (1, {"missing": ["amount"]})
    assert (
        explain(firing)
        == "Many errors: required fields missing from the payload: amount (event_type=refund, source=shop)"
    )


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        (70, None),
        (69.5, "timestamp 30.5 s before the arrival, more than 30 s (source=shop)"),
        (130, None),
        (130.25, "timestamp 30.25 s after the arrival, more than 30 s (source=shop)"),
    ],
)
def test_drift_is_measured_in_both_directions(seconds: float, reason: str | None) -> None:
    found = decide([event(1, seconds, received_at=at(100))], MemoryWindow(), rule(DRIFT)).firings
    assert [firing.verdict.reason for firing in found] == ([] if reason is None else [reason])


def test_drift_applies_to_events_outside_the_allowed_lateness() -> None:
    events = [event(1, -100_000, received_at=at(0)), event(2, timestamp=YEAR_9999)]
    found = decide(events, MemoryWindow(), rule(DRIFT, allowed_lateness_seconds=60))
    assert [firing.occurred_at for firing in found.firings] == [at(-100_000), YEAR_9999]
    assert found.late == 0


def test_an_event_in_the_far_future_starts_its_cooldown_at_its_arrival() -> None:
    drift, window = rule(DRIFT, cooldown_seconds=100), MemoryWindow()
    assert fired([event(1, timestamp=YEAR_9999)], window, drift) == [1]
    assert fired([event(2, timestamp=YEAR_9999, received_at=at(50))], window, drift) == []
    assert fired([event(3, timestamp=YEAR_9999, received_at=at(101))], window, drift) == [3]

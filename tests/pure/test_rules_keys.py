"""Tests of the keys of windows and cooldowns. If a key changed, stored state would be lost and alerts repeated."""

from typing import Any

import pytest
from marshmallow import fields
from support.rule_factory import THRESHOLD, rule

from rules.conditions import CONDITIONS
from rules.conditions.fields import BoundedInteger
from rules.conditions.threshold import ThresholdSchema
from rules.rule import digest
from rules.scope import canonical_json

SPIKE: dict[str, Any] = {"type": "rate_spike", "max_events": 5}
REQUIRED = {"payment": ["amount", "customer.id"], "refund": ["amount"]}
PAYLOAD: dict[str, Any] = {"type": "invalid_payload", "required_fields": REQUIRED}
DRIFT: dict[str, Any] = {"type": "timestamp_drift", "max_drift_seconds": 30}
ZSCORE: dict[str, Any] = {"type": "zscore", "bucket_seconds": 60, "baseline_buckets": 10, "threshold": 3}
FILTERED = THRESHOLD | {"filters": {"event_type": ["error", "fatal"], "payload.code": 5}, "group_by": ["source"]}

#: Conditions, their windows in seconds, and the digests in their keys. A change of a digest would lose stored state.
DIGESTS: list[tuple[dict[str, Any], int, str]] = [
    (THRESHOLD, 10, "a057ffbb7d55a384c64d4b04"),
    (THRESHOLD, 60, "1f3b7bc004b3cb114a1cbea5"),
    (THRESHOLD | {"operator": ">="}, 10, "a7ba3ca9b007c90b7a9f31cc"),
    (FILTERED, 10, "14f9293013b1d4184c3af5ab"),
    (SPIKE, 10, "c2a21be28424077c661bdce4"),
    (PAYLOAD, 10, "3c152616e611b75b296a69de"),
    (DRIFT, 10, "f03b67dc2444266f22641a90"),
    (ZSCORE, 10, "0f30afe3c3fa3301b58ee877"),
]


@pytest.mark.parametrize(("condition", "window_seconds", "pinned"), DIGESTS)
def test_keys_are_those_of_earlier_versions(condition: dict[str, Any], window_seconds: int, pinned: str) -> None:
    keyed = rule(condition, rule_id="r1", window_seconds=window_seconds)
    assert keyed.window_key == f"eventpulse:window:r1:{pinned}:"
    assert keyed.cooldown_key == f"eventpulse:cooldown:r1:{pinned}:"


@pytest.mark.parametrize(
    ("group", "suffix"),
    [
        ({}, "bf78e4a953b40eee238ca2e9"),
        ({"source": "shop"}, "21d1e84364e938d18052c338"),
        ({"payload.a": None, "source": "shop"}, "84664abf7df99794cff5efed"),
    ],
)
def test_the_suffix_of_a_group_is_that_of_earlier_versions(group: dict[str, Any], suffix: str) -> None:
    assert digest(canonical_json(group)) == suffix


@pytest.mark.parametrize(
    ("condition", "same"),
    [
        (THRESHOLD, THRESHOLD | {"metric": "count", "group_by": []}),
        (THRESHOLD, THRESHOLD | {"value": 2.0}),
        (THRESHOLD, THRESHOLD | {"filters": {"event_type": ["error", "error"]}}),
        (SPIKE, SPIKE | {"filters": {}}),
        (FILTERED, FILTERED | {"filters": {"payload.code": [5.0], "event_type": ["fatal", "error"]}}),
        (ZSCORE | {"group_by": ["source", "payload.a"]}, ZSCORE | {"group_by": ["payload.a", "source", "source"]}),
        (PAYLOAD, PAYLOAD | {"required_fields": {"refund": ["amount"], "payment": ["customer.id", "amount"]}}),
    ],
)
def test_notations_of_the_same_condition_have_the_same_keys(condition: dict[str, Any], same: dict[str, Any]) -> None:
    assert rule(same).window_key == rule(condition).window_key


@pytest.mark.parametrize(
    ("condition", "other"),
    [
        (THRESHOLD, THRESHOLD | {"value": 3}),
        (THRESHOLD, THRESHOLD | {"filters": {}}),
        (THRESHOLD, THRESHOLD | {"filters": {"source": "error"}}),
        (FILTERED, FILTERED | {"group_by": []}),
        (THRESHOLD | {"filters": {"payload.a": 1}}, THRESHOLD | {"filters": {"payload.a": True}}),
        (THRESHOLD | {"filters": {"payload.a": 1}}, THRESHOLD | {"filters": {"payload.a": "1"}}),
    ],
)
def test_different_conditions_have_different_keys(condition: dict[str, Any], other: dict[str, Any]) -> None:
    assert rule(other).window_key != rule(condition).window_key


class LaterThresholdSchema(ThresholdSchema):
    """Schema of the threshold condition in a later version, with new optional fields."""

    limit = BoundedInteger(0, 10, load_default=1)
    ignored = fields.List(fields.String(), load_default=list)


def test_a_new_optional_field_changes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = rule(FILTERED).window_key
    monkeypatch.setitem(CONDITIONS, "threshold", LaterThresholdSchema)
    assert rule(FILTERED).window_key == before
    assert rule(FILTERED | {"limit": 1, "ignored": []}).window_key == before
    assert rule(FILTERED | {"limit": 2}).window_key != before


def test_only_the_condition_and_the_window_of_a_rule_are_in_its_keys() -> None:
    key = rule().window_key
    assert rule(name="Other", severity="info", cooldown_seconds=60, labels={"team": "a"}).window_key == key
    assert rule(window_seconds=11).window_key != key

"""Tests of the keys of windows and cooldowns. If a key changed, stored state would be lost and alerts repeated."""

from typing import Any

import pytest
from marshmallow import fields
from support.rule_factory import THRESHOLD, rule

from rules.conditions import CONDITIONS
from rules.conditions.fields import BoundedInteger
from rules.conditions.threshold import ThresholdSchema
from rules.rule import Rule, digest
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

#: Conditions, their allowed lateness in seconds, and the digests in the keys of the windows that they share.
SHARED: list[tuple[dict[str, Any], int, str]] = [
    (THRESHOLD, 3600, "1ce05951b2c2254d04a9bd23"),
    (THRESHOLD, 60, "9a16177d69df431900d40517"),
    (THRESHOLD | {"operator": "<"}, 3600, "df37f324ff0660938edbd86a"),
    (FILTERED, 3600, "6258fb5169f7f9ce6ed37e86"),
    (SPIKE, 3600, "983ccf5feaaa437356ae8e95"),
]


@pytest.mark.parametrize(("condition", "window_seconds", "pinned"), DIGESTS)
def test_keys_are_those_of_earlier_versions(condition: dict[str, Any], window_seconds: int, pinned: str) -> None:
    keyed = rule(condition, rule_id="r1", window_seconds=window_seconds)
    assert keyed.cooldown_key == f"eventpulse:cooldown:r1:{pinned}:"
    if keyed.condition.windowed and not keyed.condition.query.shared_as:
        assert keyed.window_key == f"eventpulse:window:r1:{pinned}:"


@pytest.mark.parametrize(("condition", "lateness_seconds", "pinned"), SHARED)
def test_keys_of_shared_windows_are_those_of_earlier_versions(
    condition: dict[str, Any], lateness_seconds: int, pinned: str
) -> None:
    assert rule(condition, allowed_lateness_seconds=lateness_seconds).window_key == f"eventpulse:window:{pinned}:"


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
    assert rule(same).cooldown_key == rule(condition).cooldown_key
    assert rule(same).window_key == rule(condition).window_key


@pytest.mark.parametrize(
    ("condition", "other"),
    [
        (ZSCORE, ZSCORE | {"threshold": 4}),
        (THRESHOLD, THRESHOLD | {"operator": "<"}),
        (THRESHOLD, THRESHOLD | {"filters": {}}),
        (THRESHOLD, THRESHOLD | {"filters": {"source": "error"}}),
        (FILTERED, FILTERED | {"group_by": []}),
        (THRESHOLD | {"filters": {"payload.a": 1}}, THRESHOLD | {"filters": {"payload.a": True}}),
        (THRESHOLD | {"filters": {"payload.a": 1}}, THRESHOLD | {"filters": {"payload.a": "1"}}),
    ],
)
def test_different_conditions_have_different_keys(condition: dict[str, Any], other: dict[str, Any]) -> None:
    assert rule(other).window_key != rule(condition).window_key


def keys(keyed: Rule) -> tuple[str, str]:
    return keyed.window_key, keyed.cooldown_key


class LaterThresholdSchema(ThresholdSchema):
    """Schema of the threshold condition in a later version, with new optional fields."""

    limit = BoundedInteger(0, 10, load_default=1)
    ignored = fields.List(fields.String(), load_default=list)


def test_a_new_optional_field_changes_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(rule(FILTERED))
    monkeypatch.setitem(CONDITIONS, "threshold", LaterThresholdSchema)
    assert keys(rule(FILTERED)) == before
    assert keys(rule(FILTERED | {"limit": 1, "ignored": []})) == before
    assert rule(FILTERED | {"limit": 2}).cooldown_key != before[1]


def test_only_the_condition_and_the_window_of_a_rule_are_in_its_keys() -> None:
    for condition in (THRESHOLD, ZSCORE):
        before = keys(rule(condition))
        assert keys(rule(condition, name="Other", severity="info", cooldown_seconds=60, labels={"a": "b"})) == before
        assert rule(condition, window_seconds=11).cooldown_key != before[1]


@pytest.mark.parametrize(
    "other",
    [
        rule(THRESHOLD, rule_id="r2"),
        rule(THRESHOLD | {"value": 3}, window_seconds=60),
        rule(THRESHOLD | {"operator": ">=", "group_by": []}),
    ],
)
def test_rules_with_the_same_scope_share_their_windows_and_have_their_own_cooldowns(other: Rule) -> None:
    assert other.window_key == rule().window_key
    assert other.cooldown_key != rule().cooldown_key


@pytest.mark.parametrize(
    "other",
    [
        rule(THRESHOLD | {"group_by": ["source"]}),
        rule(THRESHOLD | {"operator": "=="}),
        rule(THRESHOLD, allowed_lateness_seconds=60),
    ],
)
def test_rules_with_another_scope_query_or_allowed_lateness_have_other_windows(other: Rule) -> None:
    assert other.window_key != rule().window_key

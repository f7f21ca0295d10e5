"""What admins may write of a rule, and how they are told what is wrong."""

from typing import Any

import pytest
from support.rule_factory import THRESHOLD, row, rule

from rules.rule import InvalidRule, RuleSchema, parse_rule

SPIKE = {"type": "rate_spike", "max_events": 5}
PAYLOAD = {"type": "invalid_payload", "required_fields": {"payment": ["amount", "customer.id"]}}
DRIFT = {"type": "timestamp_drift", "max_drift_seconds": 30}
ZSCORE = {"type": "zscore", "bucket_seconds": 60, "baseline_buckets": 10, "threshold": 3}


def refused(**fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidRule) as caught:
        parse_rule(row(**fields))
    return {error["field"]: error["message"] for error in caught.value.errors}


@pytest.mark.parametrize("condition", [THRESHOLD, SPIKE, PAYLOAD, DRIFT, ZSCORE], ids=lambda c: c["type"])
def test_every_kind_of_condition_is_understood(condition: dict[str, Any]) -> None:
    assert rule(condition) == rule(condition)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"operator": "=>"}, "condition.operator"),
        ({"metric": "sum"}, "condition.metric"),
        ({"value": -1}, "condition.value"),
        ({"value": "5"}, "condition.value"),
        ({"value": True}, "condition.value"),
        ({"value": float("nan")}, "condition.value"),
        ({"value": 10_001}, "condition.value"),
        ({"filters": {"foo": 1}}, "condition.filters.foo"),
        ({"filters": {5: 1}}, "condition.filters.5"),
        ({"filters": {"payload": 1}}, "condition.filters.payload"),
        ({"filters": {"payload.a..b": 1}}, "condition.filters.payload.a..b"),
        ({"filters": {"payload.a": {"b": 1}}}, "condition.filters.payload.a"),
        ({"filters": {"payload.a": []}}, "condition.filters.payload.a"),
        ({"filters": {"payload.a": [[1]]}}, "condition.filters.payload.a"),
        ({"filters": []}, "condition.filters"),
        ({"group_by": ["source", "host"]}, "condition.group_by.1"),
        ({"group_by": [7]}, "condition.group_by.0"),
        ({"group_by": "source"}, "condition.group_by"),
        ({"windw": 1}, "condition.windw"),
        ({"type": "threshhold"}, "condition.type"),
        ({"type": None}, "condition.type"),
    ],
)
def test_an_error_in_a_condition_is_named_by_its_path(change: dict[str, Any], field: str) -> None:
    assert list(refused(condition=THRESHOLD | change)) == [field]


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        (SPIKE | {"max_events": 0}, "condition.max_events"),
        (SPIKE | {"max_events": 1.5}, "condition.max_events"),
        (PAYLOAD | {"required_fields": {}}, "condition.required_fields"),
        (PAYLOAD | {"required_fields": {"payment": []}}, "condition.required_fields.payment.value"),
        (PAYLOAD | {"required_fields": {"payment": ["a."]}}, "condition.required_fields.payment.value.0"),
        (DRIFT | {"max_drift_seconds": 0}, "condition.max_drift_seconds"),
        (ZSCORE | {"bucket_seconds": 0}, "condition.bucket_seconds"),
        (ZSCORE | {"baseline_buckets": 1}, "condition.baseline_buckets"),
        (ZSCORE | {"threshold": 0}, "condition.threshold"),
    ],
)
def test_every_kind_of_condition_has_its_bounds(condition: dict[str, Any], field: str) -> None:
    assert list(refused(condition=condition)) == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "n" * 256),
        ("severity", "fatal"),
        ("enabled", "yes"),
        ("enabled", 1),
        ("window_seconds", 0),
        ("window_seconds", 86_401),
        ("window_seconds", "60"),
        ("cooldown_seconds", -1),
        ("cooldown_seconds", 604_801),
        ("allowed_lateness_seconds", 604_801),
        ("condition", []),
    ],
)
def test_an_error_in_a_rule_is_named(field: str, value: Any) -> None:
    assert list(refused(**{field: value})) == [field]


def test_a_rule_needs_a_condition() -> None:
    with pytest.raises(InvalidRule, match=r"condition: Field may not be null\."):
        parse_rule(row() | {"condition": None})


def test_all_errors_are_told_at_once() -> None:
    assert refused(name="", condition=THRESHOLD | {"operator": "~"}) == {
        "name": "Length must be between 1 and 255.",
        "condition.operator": "Must be one of: >, >=, <, <=, ==, !=.",
    }


def test_an_invalid_rule_says_why_in_one_line() -> None:
    with pytest.raises(InvalidRule, match=r"^severity: Must be one of: info, warning, critical\.$"):
        parse_rule(row(severity="fatal"))


def test_what_a_rule_leaves_out_has_a_sensible_value() -> None:
    fields = row()
    del fields["allowed_lateness_seconds"], fields["cooldown_seconds"]
    parsed = parse_rule(fields)
    assert (parsed.allowed_lateness_seconds, parsed.cooldown_seconds) == (3600, 300)


def test_a_changed_condition_or_window_starts_afresh_but_a_changed_name_does_not() -> None:
    key = rule().window_key
    assert rule(name="Other", cooldown_seconds=60).window_key == key
    assert rule(window_seconds=11).window_key != key
    assert rule(THRESHOLD | {"value": 3}).window_key != key


@pytest.mark.parametrize("enabled", [True, False])
def test_a_rule_may_be_written_before_it_is_in_force(enabled: bool) -> None:
    written = {"name": "Many", "severity": "info", "window_seconds": 60, "condition": SPIKE, "enabled": enabled}
    assert RuleSchema().load(written)["enabled"] is enabled

"""Tests of the validation of rules, and of the path and message of each error."""

from typing import Any

import pytest
from support.rule_factory import THRESHOLD, row, rule

from rules.conditions import warnings
from rules.rule import InvalidRule, RuleSchema, parse_rule

SPIKE = {"type": "rate_spike", "max_events": 5}
PAYLOAD = {"type": "invalid_payload", "required_fields": {"payment": ["amount", "customer.id"]}}
DRIFT = {"type": "timestamp_drift", "max_drift_seconds": 30}
ZSCORE = {"type": "zscore", "bucket_seconds": 60, "baseline_buckets": 10, "threshold": 3}
MANY = [f"v{number}" for number in range(1_001)]


def errors_of(**fields: Any) -> dict[str, str]:
    """Return the messages of the errors by field path."""
    with pytest.raises(InvalidRule) as caught:
        parse_rule(row(**fields))
    return {error["field"]: error["message"] for error in caught.value.errors}


@pytest.mark.parametrize("condition", [THRESHOLD, SPIKE, PAYLOAD, DRIFT, ZSCORE], ids=lambda c: c["type"])
def test_every_condition_type_can_be_parsed(condition: dict[str, Any]) -> None:
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
        ({"filters": {"payload.a": MANY}}, "condition.filters.payload.a"),
        ({"filters": []}, "condition.filters"),
        ({"group_by": ["source", "host"]}, "condition.group_by.1"),
        ({"group_by": [7]}, "condition.group_by.0"),
        ({"group_by": "source"}, "condition.group_by"),
        ({"windw": 1}, "condition.windw"),
        ({"type": "threshhold"}, "condition.type"),
        ({"type": None}, "condition.type"),
    ],
)
def test_an_error_in_a_condition_has_its_path(change: dict[str, Any], field: str) -> None:
    assert list(errors_of(condition=THRESHOLD | change)) == [field]


@pytest.mark.parametrize("column", ["event_type", "source"])
@pytest.mark.parametrize("value", [None, "", 5, True, [], ["error", None], ["error", ""], [7], {"a": 1}, MANY])
def test_a_filter_by_event_type_or_source_has_at_most_1000_non_empty_strings(column: str, value: Any) -> None:
    """Event types and sources are always non-empty strings.

    In the index, None stands for a rule without this filter, so null must not be a filter value.
    """
    errors = errors_of(condition=THRESHOLD | {"filters": {column: value}})
    message = "Must be a non-empty string or a non-empty list of such strings."
    assert errors == {f"condition.filters.{column}": "Must have at most 1000 values." if value is MANY else message}


@pytest.mark.parametrize(
    ("condition", "field"),
    [
        (SPIKE | {"max_events": 0}, "condition.max_events"),
        (SPIKE | {"max_events": 1.5}, "condition.max_events"),
        (SPIKE | {"filters": {"event_type": None}}, "condition.filters.event_type"),
        (PAYLOAD | {"required_fields": {}}, "condition.required_fields"),
        (PAYLOAD | {"required_fields": {name: ["amount"] for name in MANY}}, "condition.required_fields"),
        (PAYLOAD | {"required_fields": {"payment": []}}, "condition.required_fields.payment.value"),
        (PAYLOAD | {"required_fields": {"payment": MANY}}, "condition.required_fields.payment.value"),
        (PAYLOAD | {"required_fields": {"payment": ["a."]}}, "condition.required_fields.payment.value.0"),
        (DRIFT | {"max_drift_seconds": 0}, "condition.max_drift_seconds"),
        (ZSCORE | {"bucket_seconds": 0}, "condition.bucket_seconds"),
        (ZSCORE | {"baseline_buckets": 1}, "condition.baseline_buckets"),
        (ZSCORE | {"threshold": 0}, "condition.threshold"),
    ],
)
def test_every_condition_type_has_its_limits(condition: dict[str, Any], field: str) -> None:
    assert list(errors_of(condition=condition)) == [field]


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
        ("key", ""),
        ("key", "-checkout"),
        ("key", "Checkout"),
        ("key", "k" * 65),
        ("key", "checkout\n"),
        ("labels", []),
        ("labels", None),
        ("labels", {f"l{number}": "v" for number in range(33)}),
        ("description", "d" * 2_001),
        ("runbook_url", ""),
        ("runbook_url", "javascript:alert(1)"),
        ("runbook_url", "https://"),
        ("runbook_url", "https:///path"),
        ("runbook_url", "https://wiki.example/a b"),
        ("runbook_url", "https://wiki.example/\n"),
        ("runbook_url", "https://wiki.example/" + "x" * 2_000),
    ],
)
def test_an_error_in_a_rule_has_its_path(field: str, value: Any) -> None:
    assert list(errors_of(**{field: value})) == [field]


@pytest.mark.parametrize(
    ("labels", "path"),
    [
        ({"": "v"}, "labels..key"),
        ({"a.b": "v"}, "labels.a.b.key"),
        ({"7": "v"}, "labels.7.key"),
        ({"team": ""}, "labels.team.value"),
        ({"team": 5}, "labels.team.value"),
        ({"team": "v" * 256}, "labels.team.value"),
    ],
)
def test_an_error_in_a_label_has_its_path(labels: dict[str, Any], path: str) -> None:
    assert list(errors_of(labels=labels)) == [path]


def test_a_rule_can_be_documented() -> None:
    documented: dict[str, Any] = {
        "key": "checkout.errors-1",
        "labels": {"team": "payments", "_tier2": "1"},
        "description": "d" * 2_000,
        "runbook_url": "https://wiki.example/checkout?page=2#errors",
    }
    loaded = RuleSchema().load(_written(row(**documented)))
    assert {name: loaded[name] for name in documented} == documented
    assert rule(**documented).runbook_url == documented["runbook_url"]


def test_a_rule_needs_a_condition() -> None:
    with pytest.raises(InvalidRule, match=r"condition: Field may not be null\."):
        parse_rule(row() | {"condition": None})


def test_all_errors_are_reported_together() -> None:
    assert errors_of(name="", condition=THRESHOLD | {"operator": "~"}) == {
        "name": "Length must be between 1 and 255.",
        "condition.operator": "Must be one of: >, >=, <, <=, ==, !=.",
    }


def test_the_text_of_an_invalid_rule_is_one_line() -> None:
    with pytest.raises(InvalidRule, match=r"^severity: Must be one of: info, warning, critical\.$"):
        parse_rule(row(severity="fatal"))


def test_omitted_fields_have_defaults() -> None:
    loaded = RuleSchema().load({"name": "Many", "severity": "info", "window_seconds": 60, "condition": SPIKE})
    assert loaded == {
        "key": None,
        "name": "Many",
        "enabled": True,
        "severity": "info",
        "window_seconds": 60,
        "cooldown_seconds": 300,
        "allowed_lateness_seconds": 3600,
        "condition": SPIKE | {"filters": {}},
        "labels": {},
        "description": None,
        "runbook_url": None,
    }


@pytest.mark.parametrize("operator", ["<", "<=", "==", "!="])
def test_a_threshold_that_depends_on_the_order_of_arrival_has_a_warning(operator: str) -> None:
    (warning,) = warnings(THRESHOLD | {"operator": operator})
    assert warning == (
        f"The operator {operator} is evaluated only when an event arrives: the rule can fire for the first events of "
        "a group, and it cannot fire while no event arrives."
    )


@pytest.mark.parametrize("condition", [THRESHOLD, THRESHOLD | {"operator": ">="}, SPIKE, PAYLOAD, DRIFT, ZSCORE])
def test_other_conditions_have_no_warning(condition: dict[str, Any]) -> None:
    assert warnings(condition) == []


@pytest.mark.parametrize(
    "condition", [{}, {"type": []}, {"type": "absence"}, {"type": "threshold", "levels": {}}], ids=str
)
def test_an_unsupported_condition_has_no_warning(condition: dict[str, Any]) -> None:
    assert warnings(condition) == []


def _written(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in RuleSchema().fields}

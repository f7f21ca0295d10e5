"""Tests with generated rules and events: validation, storage, evaluation, and the index of rules."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support.fuzz_settings import examples
from support.rule_factory import NOON, decide, row

from rules.engine.index import RuleSet
from rules.event import Event
from rules.rule import InvalidRule, Rule, RuleSchema, parse_rule
from rules.scope import as_list, canonical_json, getter
from rules.windows.memory import MemoryWindow

MAX_SECONDS = 2  # maximum CPU time for the validation of a rule, in seconds; much longer than any rule needs
FIELDS = tuple(RuleSchema().fields)

text = st.text(max_size=4) | st.sampled_from(["", "\x00", "error", "shop", "a", "b", "x" * 256])
name = st.sampled_from(["error", "shop"])
number = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 1, 1.0, True, -0.0, 5e-324, 1e308, 2**53, 2**63, 10**400])
)
scalar = st.none() | st.booleans() | number | text
tree = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6
)

#: Strategy for paths of fields: mostly valid paths, some invalid ones, and a very long path.
path = st.sampled_from(
    [*["event_type", "source", "payload.a", "payload.a.b", "metadata.b"] * 4, "payload", "payload..a", "a." * 5_000]
)
object_path = st.sampled_from([*["payload.a", "payload.a.b", "metadata.b"] * 4, "source", "payload..a"])
columns = st.dictionaries(st.sampled_from(["event_type", "source"]), name | st.lists(name, min_size=1, max_size=3))
filters = st.builds(
    lambda valid, others: valid | others,
    columns,
    st.dictionaries(object_path, scalar | st.lists(scalar, min_size=1, max_size=3), max_size=1),
)
group_by = st.lists(path, max_size=2)
seconds = st.integers(1, 86_400)
bucket = st.fixed_dictionaries(
    {"bucket_seconds": seconds, "baseline_buckets": st.integers(2, 1_000), "threshold": st.floats(5e-324, 1e308)},
)
scoped = st.fixed_dictionaries({}, optional={"filters": filters, "group_by": group_by})
threshold = st.fixed_dictionaries(
    {
        "operator": st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
        "value": st.integers(0, 10_000) | st.floats(0, 10_000),
    },
    optional={"metric": st.just("count")},
)
paths = st.lists(st.sampled_from(["a", "a.b", "b", "c"]), min_size=1, max_size=3)
required = st.dictionaries(name, paths, min_size=1)
kinds = {
    "threshold": threshold,
    "rate_spike": st.fixed_dictionaries({"max_events": st.integers(1, 10_000)}),
    "invalid_payload": st.fixed_dictionaries({"required_fields": required}),
    "timestamp_drift": st.fixed_dictionaries({"max_drift_seconds": st.floats(5e-324, 1e308) | st.integers(1)}),
    "zscore": bucket,
}
written = st.sampled_from(sorted(kinds)).flatmap(
    lambda kind: st.builds(lambda scope, rest: {"type": kind, **scope, **rest}, scoped, kinds[kind])
)


@st.composite
def conditions(draw: st.DrawFn) -> Any:
    """Generate a condition; in about a quarter of the conditions a field is changed, added or deleted."""
    condition = draw(written)
    if draw(st.sampled_from([True, False, False, False])):
        field = draw(st.sampled_from(sorted(condition)) | text)
        condition |= {field: draw(tree)}
        if draw(st.booleans()):
            del condition[field]
    return condition


sound = st.fixed_dictionaries(
    {},
    optional={
        "window_seconds": seconds,
        "cooldown_seconds": st.integers(0, 7 * 86_400),
        "allowed_lateness_seconds": st.integers(0, 7 * 86_400),
        "labels": st.dictionaries(name, name, max_size=2),
        "runbook_url": st.just("https://wiki.example/errors"),
    },
)
anything = st.dictionaries(st.sampled_from(FIELDS), tree, max_size=2)
rows = st.builds(
    lambda condition, fields, odd: row(condition, **fields) | odd,
    conditions(),
    sound,
    st.just({}) | st.just({}) | anything,
)

times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)).map(lambda time: time.replace(tzinfo=UTC))
around_noon = st.integers(-90_000, 90).map(lambda late: NOON + timedelta(seconds=late))
objects = st.dictionaries(st.sampled_from(["a", "b"]) | text, tree, max_size=3)
any_events = st.builds(
    Event,
    event_id=st.uuids().map(str),
    event_type=name | text.filter(bool),
    source=name | text.filter(bool),
    timestamp=around_noon | times,
    payload=objects,
    metadata=objects,
    received_at=st.just(NOON),
)


def parsed(fields: Mapping[str, Any]) -> Rule | None:
    """Return the compiled rule, or None if the fields are invalid; check the CPU time and the errors."""
    started = process_time()
    try:
        return parse_rule(fields)
    except InvalidRule as invalid:
        errors = invalid.errors
    finally:
        assert process_time() - started < MAX_SECONDS
    assert errors
    assert all(error.keys() == {"field", "message"} for error in errors)
    return None


@examples(100)
@given(tree, st.dictionaries(st.sampled_from(FIELDS), tree, max_size=7))
def test_any_json_is_a_valid_rule_or_has_errors(condition: Any, fields: dict[str, Any]) -> None:
    parsed(row() | fields)
    parsed(row() | {"condition": condition})


@examples(150)
@given(rows)
def test_a_stored_rule_is_the_same_rule(fields: dict[str, Any]) -> None:
    rule = parsed(fields)
    if rule is not None:
        loaded = RuleSchema().load({name: value for name, value in fields.items() if name in FIELDS})
        stored = msgspec.json.decode(msgspec.json.encode(loaded))
        assert parse_rule({**stored, "rule_id": rule.rule_id, "version": rule.version}) == rule


@examples(150)
@given(st.lists(rows, min_size=1, max_size=4), st.lists(any_events, max_size=6))
def test_a_valid_rule_can_be_evaluated_on_any_event(written: list[Any], events: list[Event]) -> None:
    rules = [parsed(fields | {"rule_id": str(place)}) for place, fields in enumerate(written)]
    evaluation = decide(events, MemoryWindow(), *filter(None, rules))
    assert evaluation.faults == []
    for firing in evaluation.firings:
        assert firing.verdict.reason
        msgspec.json.encode([firing.verdict, firing.group, firing.selection])


few_values: st.SearchStrategy[Any] = st.sampled_from(["error", "shop", "", 1, True, None, {}])
few_filters = st.builds(
    lambda valid, others: valid | others,
    columns,
    st.dictionaries(
        st.sampled_from(["payload.a", "metadata.b"]), st.sampled_from(["error", 1, True, None]), max_size=2
    ),
)
few_events = st.builds(
    Event,
    event_id=st.just("e1"),
    event_type=name,
    source=name,
    timestamp=st.just(NOON),
    payload=st.dictionaries(st.just("a"), few_values),
    metadata=st.dictionaries(st.just("b"), few_values),
    received_at=st.just(NOON),
)


@examples(150)
@given(st.lists(few_filters, max_size=5), few_events)
def test_the_index_finds_exactly_the_rules_whose_filters_match(filters: list[dict[str, Any]], event: Event) -> None:
    condition = {"type": "rate_spike", "max_events": 1}
    rules = [parse_rule(row(condition | {"filters": each}, rule_id=str(n))) for n, each in enumerate(filters)]
    applying = [each.rules for each in RuleSet(rules).candidates(event) if each.scope.matches(event)]
    found = [rule.rule_id for rules in applying for rule in rules]
    assert sorted(found) == [str(n) for n, each in enumerate(filters) if _matches(each, event)]


def _matches(filters: dict[str, Any], event: Event) -> bool:
    values = {path: [canonical_json(value) for value in as_list(wanted)] for path, wanted in filters.items()}
    return all(canonical_json(getter(path)(event)) in wanted for path, wanted in values.items())

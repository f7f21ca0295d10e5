"""Tests of the rules and groups that an event matches, and of the index of rules."""

from time import process_time
from typing import Any

import pytest
from support.rule_factory import THRESHOLD, decide, event, fired, rule

from rules.engine.index import RuleSet
from rules.scope import MAX_INDEX_ENTRIES, Scope
from rules.windows.memory import MemoryWindow

ONE: dict[str, Any] = {"type": "threshold", "operator": ">=", "value": 1}


def candidates(rules: RuleSet, **fields: Any) -> list[str]:
    """Return the ids of the rules that the index finds for an event with these fields."""
    return [found.rule_id for scope_rules in rules.candidates(event(1, **fields)) for found in scope_rules.rules]


@pytest.mark.parametrize(
    ("wanted", "found", "matches"),
    [
        (1, 1, True),
        (1, 1.0, True),
        (1, True, False),
        (1, "1", False),
        (True, True, True),
        (True, 1, False),
        ("5", "5", True),
        ("5", 5, False),
        (None, None, True),
        ([1, "a"], "a", True),
        ([1, "a"], "b", False),
        (1, [1], False),
        (1, {"a": 1}, False),
    ],
)
def test_values_compare_as_in_json(wanted: Any, found: Any, matches: bool) -> None:
    scope = Scope.of({"payload.a": wanted}, [])
    assert scope.matches(event(1, payload={"a": found})) is matches


@pytest.mark.parametrize(
    ("payload", "matches"), [({"a": {"b": 1}}, True), ({"a": 1}, False), ({"a": {"b.c": 1}}, False), ({}, False)]
)
def test_a_path_leads_into_nested_objects(payload: dict[str, Any], matches: bool) -> None:
    assert Scope.of({"payload.a.b": 1}, []).matches(event(1, payload=payload)) is matches


def test_a_missing_path_has_the_value_null() -> None:
    assert Scope.of({"metadata.a": None}, []).matches(event(1))


def test_an_event_finds_the_rules_for_its_type_its_source_both_and_all_events() -> None:
    filters: dict[str, Any] = {
        "type": {"event_type": ["error", "fatal", "error"]},
        "source": {"source": "shop"},
        "both": {"event_type": "error", "source": ["shop", "till"]},
        "all": {"payload.a": 1},
        "other type": {"event_type": "order"},
        "other source": {"event_type": "error", "source": "till"},
    }
    rules = RuleSet(rule(ONE | {"filters": each}, rule_id=name) for name, each in filters.items())
    assert candidates(rules) == ["type", "both", "source"]
    assert candidates(rules, payload={"a": 1.0})[3:] == ["all"]


def test_the_index_narrows_rules_by_their_first_payload_or_metadata_filter() -> None:
    filters: dict[str, Any] = {
        "one": {"payload.user": "ada"},
        "two": {"payload.user": ["ada", "grace"], "metadata.region": "eu"},
        "three": {"metadata.region": "us"},
        "four": {"payload.user": None},
    }
    rules = RuleSet(rule(ONE | {"filters": each}, rule_id=name) for name, each in filters.items())
    assert candidates(rules, payload={"user": "ada"}) == ["one", "two"]
    assert candidates(rules, payload={"user": "grace"}, metadata={"region": "us"}) == ["two", "three"]
    assert candidates(rules) == ["four"]


@pytest.mark.parametrize("second", ["source", "payload.user"])
def test_the_largest_rule_has_few_index_entries_and_matches_all_its_values(second: str) -> None:
    """An index entry for each combination of values would need gigabytes of memory and crash the worker."""
    types, others = ([f"{name}{number}" for number in range(1_000)] for name in ("type", "value"))
    started = process_time()
    largest = rule(ONE | {"filters": {"event_type": types, second: others}})
    rules = RuleSet([largest])
    assert process_time() - started < 1
    assert rules.size == 1_000
    fields: dict[str, Any] = {"source": "value7"} if second == "source" else {"payload": {"user": "value7"}}
    assert fired([event(1, event_type="type999", **fields)], MemoryWindow(), largest) == [1]
    assert fired([event(1, event_type="type999")], MemoryWindow(), largest) == []


@pytest.mark.parametrize(("types", "size"), [(100, MAX_INDEX_ENTRIES), (101, 101)])
def test_a_rule_has_at_most_10000_index_entries(types: int, size: int) -> None:
    filters = {"event_type": [f"t{number}" for number in range(types)], "source": [f"s{n}" for n in range(100)]}
    assert RuleSet([rule(ONE | {"filters": filters})]).size == size


def test_each_group_has_its_own_window() -> None:
    by_source = rule(THRESHOLD | {"group_by": ["source"]})
    events = [event(number, number / 10, source=f"s{number % 2}") for number in range(6)]
    found = decide(events, MemoryWindow(), by_source).firings
    assert [(firing.event_id, firing.group, firing.group_key) for firing in found] == [
        (events[4].event_id, {"source": "s0"}, '{"source":"s0"}'),
        (events[5].event_id, {"source": "s1"}, '{"source":"s1"}'),
    ]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (1, 1.0, True),
        ({"x": [1, True]}, {"x": [1.0, True]}, True),
        (1, True, False),
        (1, "1", False),
        (1e300, 10**300, False),
        (1.5, 1.5, True),
    ],
)
def test_groups_are_equal_where_json_values_are(one: Any, other: Any, together: bool) -> None:
    by_value = rule(ONE | {"value": 2, "group_by": ["payload.a"]})
    events = [event(1, payload={"a": one}), event(2, payload={"a": other})]
    assert fired(events, MemoryWindow(), by_value) == ([2] if together else [])


def test_the_selection_of_a_firing_has_its_filters_group_and_window() -> None:
    condition = ONE | {"filters": {"event_type": ["error", "fatal"], "source": ["a", "b"]}, "group_by": ["source"]}
    (firing,) = decide([event(20, source="a")], MemoryWindow(), rule(condition)).firings
    assert firing.selection is not None
    assert firing.selection.equal == {"event_type": ["error", "fatal"], "source": ["a"]}
    assert (firing.selection.after, firing.selection.until) == (event(10).timestamp, event(20).timestamp)


def test_an_event_must_pass_every_filter() -> None:
    both = rule(ONE | {"filters": {"payload.user": "ada", "metadata.region": "eu"}})
    events = [event(1, payload={"user": "ada"}), event(2, payload={"user": "ada"}, metadata={"region": "eu"})]
    assert fired(events, MemoryWindow(), both) == [2]

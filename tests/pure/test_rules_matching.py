"""Which events a rule is about, and into which groups they fall."""

from typing import Any

import pytest
from support.rule_factory import THRESHOLD, decide, event, fired, rule

from rules.engine.index import RuleSet
from rules.scope import Scope
from rules.windows.memory import MemoryWindow

ONE: dict[str, Any] = {"type": "threshold", "operator": ">=", "value": 1}


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
def test_a_path_reaches_into_nested_objects(payload: dict[str, Any], matches: bool) -> None:
    assert Scope.of({"payload.a.b": 1}, []).matches(event(1, payload=payload)) is matches


def test_what_is_missing_is_null() -> None:
    assert Scope.of({"metadata.a": None}, []).matches(event(1))


def test_an_event_finds_the_rules_for_its_type_its_source_both_and_all() -> None:
    filters: dict[str, Any] = {
        "type": {"event_type": ["error", "fatal", "error"]},
        "source": {"source": "shop"},
        "both": {"event_type": "error", "source": ["shop", "till"]},
        "all": {"payload.a": 1},
        "other type": {"event_type": "order"},
        "other source": {"event_type": "error", "source": "till"},
    }
    rules = RuleSet(rule(ONE | {"filters": each}, rule_id=name) for name, each in filters.items())
    assert [found.rule_id for found in rules.candidates(event(1))] == ["type", "both", "source"]
    assert [found.rule_id for found in rules.candidates(event(1, payload={"a": 1.0}))][3:] == ["all"]


def test_rules_with_other_filters_are_found_by_the_first_of_these() -> None:
    filters: dict[str, Any] = {
        "one": {"payload.user": "ada"},
        "two": {"payload.user": ["ada", "grace"], "metadata.region": "eu"},
        "three": {"metadata.region": "us"},
        "four": {"payload.user": None},
    }
    rules = RuleSet(rule(ONE | {"filters": each}, rule_id=name) for name, each in filters.items())

    def candidates(**fields: Any) -> list[str]:
        return [found.rule_id for found in rules.candidates(event(1, **fields))]

    assert candidates(payload={"user": "ada"}) == ["one", "two"]
    assert candidates(payload={"user": "grace"}, metadata={"region": "us"}) == ["two", "three"]
    assert candidates() == ["four"]


def test_each_group_has_a_window_of_its_own() -> None:
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
def test_groups_are_equal_where_json_is(one: Any, other: Any, together: bool) -> None:
    by_value = rule(ONE | {"value": 2, "group_by": ["payload.a"]})
    events = [event(1, payload={"a": one}), event(2, payload={"a": other})]
    assert fired(events, MemoryWindow(), by_value) == ([2] if together else [])


def test_the_events_behind_a_firing_are_those_of_its_filters_group_and_window() -> None:
    condition = ONE | {"filters": {"event_type": ["error", "fatal"], "source": ["a", "b"]}, "group_by": ["source"]}
    (firing,) = decide([event(20, source="a")], MemoryWindow(), rule(condition)).firings
    assert firing.selection is not None
    assert firing.selection.equal == {"event_type": ["error", "fatal"], "source": ["a"]}
    assert (firing.selection.after, firing.selection.until) == (event(10).timestamp, event(20).timestamp)


def test_an_event_has_to_pass_every_filter() -> None:
    both = rule(ONE | {"filters": {"payload.user": "ada", "metadata.region": "eu"}})
    events = [event(1, payload={"user": "ada"}), event(2, payload={"user": "ada"}, metadata={"region": "eu"})]
    assert fired(events, MemoryWindow(), both) == [2]

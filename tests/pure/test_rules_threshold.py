"""Tests of the conditions threshold and rate_spike: operators, late events, redeliveries, and messages."""

import pytest
from support.rule_factory import THRESHOLD, decide, event, fired, rule

from rules.engine.explain import explain
from rules.windows.memory import MemoryWindow

LONG = "x" * 200


@pytest.mark.parametrize(
    ("operator", "value", "numbers"),
    [
        (">", 2, [3, 4, 5]),
        (">", 2.5, [3, 4, 5]),
        (">", 0, [1, 2, 3, 4, 5]),
        (">=", 2, [2, 3, 4, 5]),
        (">=", 2.5, [3, 4, 5]),
        (">=", 0, [1, 2, 3, 4, 5]),
        ("<", 3, [1, 2]),
        ("<=", 3, [1, 2, 3]),
        ("==", 3, [3]),
        ("==", 2.5, []),
        ("!=", 3, [1, 2, 4, 5]),
    ],
)
def test_each_operator_compares_the_count_that_ends_with_the_event(
    operator: str, value: float, numbers: list[int]
) -> None:
    counted = rule(THRESHOLD | {"operator": operator, "value": value})
    assert fired((event(number) for number in range(1, 6)), MemoryWindow(), counted) == numbers


@pytest.mark.parametrize(("last", "numbers"), [(11.999999, [3]), (12, [])])
def test_a_window_excludes_its_start_and_includes_its_end(last: float, numbers: list[int]) -> None:
    assert fired([event(1, 2), event(2), event(3, last)], MemoryWindow(), rule()) == numbers


def test_a_missing_event_that_arrives_late_completes_a_later_window() -> None:
    window = MemoryWindow()
    assert fired([event(1), event(5)], window, rule()) == []
    assert fired([event(3)], window, rule()) == [5]


def test_a_late_event_does_not_repeat_firings_that_did_not_need_it() -> None:
    window = MemoryWindow()
    assert fired([event(1), event(2), event(3), event(4)], window, rule()) == [3, 4]
    assert fired([event(0)], window, rule()) == [2]


def test_a_redelivered_event_repeats_every_firing_that_needed_it() -> None:
    window = MemoryWindow()
    events = [event(1), event(3), event(5), event(20)]
    assert fired(events, window, rule()) == [5]
    assert fired(events[:1], window, rule()) == [5]


def test_an_event_is_counted_once_after_any_number_of_deliveries() -> None:
    window = MemoryWindow()
    assert fired([event(1), event(1), event(2)], window, rule()) == []
    assert fired([event(1), event(2)], window, rule()) == []


@pytest.mark.parametrize(
    ("operator", "value", "reason"),
    [
        (">", 2, "more than 2 events in 10 s (source=shop)"),
        (">=", 3, "at least 3 events in 10 s (source=shop)"),
        ("<", 4, "3 events in 10 s, fewer than 4 (source=shop)"),
        ("<=", 3, "3 events in 10 s, at most 3 (source=shop)"),
        ("==", 3, "3 events in 10 s, exactly 3 (source=shop)"),
        ("!=", 2.5, "3 events in 10 s, other than 2.5 (source=shop)"),
    ],
)
def test_the_reason_states_the_count_the_window_and_the_limit(operator: str, value: float, reason: str) -> None:
    counted = rule(THRESHOLD | {"operator": operator, "value": value, "group_by": ["source"]})
    firing = decide([event(1), event(2), event(3)], MemoryWindow(), counted).firings[-1]
    assert firing.verdict.reason == reason
    assert (firing.verdict.observed, firing.verdict.threshold) == (3, value)
    assert explain(firing) == f"Many errors: {reason}"


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (6, "Many errors: 6 events in 10 s, more than 2"),
        (1, "Many errors: 3 events in 10 s, more than 2"),
        (None, "Many errors: more than 2 events in 10 s"),
    ],
)
def test_the_message_has_the_stored_count_if_it_is_known(count: int | None, message: str) -> None:
    (firing,) = decide([event(1), event(2), event(3)], MemoryWindow(), rule()).firings
    assert explain(firing, count) == message


def test_the_message_has_the_count_of_the_rule_if_that_is_exact() -> None:
    (firing,) = decide([event(1)], MemoryWindow(), rule(THRESHOLD | {"operator": "<"})).firings
    assert explain(firing, 9) == "Many errors: 1 event in 10 s, fewer than 2"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "null"), (5, "5"), ("a\nb", '"a\\nb"'), (LONG, "x" * 79 + "…")], ids=str
)
def test_a_group_is_one_short_line_for_any_value(value: object, text: str) -> None:
    counted = rule(THRESHOLD | {"value": 0, "group_by": ["payload.a", "source"]})
    (firing,) = decide([event(1, payload={"a": value})], MemoryWindow(), counted).firings
    assert firing.verdict.reason == f"more than 0 events in 10 s (payload.a={text}, source=shop)"


def test_a_rate_spike_counts_the_events_of_one_source() -> None:
    spike = rule({"type": "rate_spike", "max_events": 2, "filters": {"payload.a": 1}})
    events = [event(number, number / 10, source=f"s{number % 2}", payload={"a": 1}) for number in range(5)]
    (firing,) = decide([*events, event(9, 0.9)], MemoryWindow(), spike).firings
    assert firing.event_id == events[4].event_id
    assert firing.verdict.reason == "more than 2 events of one source in 10 s (source=s0)"
    assert explain(firing, 3) == "Many errors: 3 events in 10 s, more than 2 (source=s0)"

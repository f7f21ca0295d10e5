"""Tests that firings do not depend on the order of arrival, and that windows use bounded memory."""

from hypothesis import given, settings
from hypothesis import strategies as st
from support.arrival_orders import (
    Arrivals,
    arrivals,
    check_any_order,
    check_cooldown,
    check_shared_windows,
    cooldowns,
    limits,
    needs,
    windows,
)
from support.rule_factory import THRESHOLD, event, fired, rule

from rules.windows.memory import MemoryWindow


@settings(max_examples=300, deadline=None)
@given(arrivals(), needs, windows)
def test_firings_do_not_depend_on_the_order_of_arrival(case: Arrivals, needed: int, seconds: int) -> None:
    check_any_order(case, MemoryWindow(), needed, seconds)


@settings(max_examples=200, deadline=None)
@given(arrivals(), needs, windows, cooldowns)
def test_a_cooldown_suppresses_the_firings_near_another_and_no_others(
    case: Arrivals, needed: int, seconds: int, cooldown: int
) -> None:
    check_cooldown(case, MemoryWindow(), needed, seconds, cooldown)


@settings(max_examples=200, deadline=None)
@given(arrivals(), limits, st.just(0) | cooldowns)
def test_rules_that_share_a_window_fire_as_if_each_had_its_own(
    case: Arrivals, chosen: list[tuple[str, int, int]], cooldown: int
) -> None:
    check_shared_windows(case, MemoryWindow(), chosen, cooldown)


def test_a_window_keeps_at_most_a_few_times_the_counted_events() -> None:
    window = MemoryWindow()
    counted = rule(THRESHOLD | {"value": 9}, window_seconds=3600)
    for start in range(0, 10_000, 500):
        fired((event(number, number / 10) for number in range(start, start + 500)), window, counted)
    (state,) = window._windows.values()
    assert len(state.members.order) == len(state.members.times) == 10 + 256


def test_a_window_keeps_no_event_older_than_its_width_and_the_lateness() -> None:
    window, counted = MemoryWindow(), rule(allowed_lateness_seconds=20)
    fired((event(number) for number in range(100)), window, counted)
    (state,) = window._windows.values()
    assert len(state.members.order) == 30

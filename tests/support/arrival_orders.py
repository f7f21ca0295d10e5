"""Hypothesis strategies for events that arrive in any order, repeatedly, and in batches whose worker may crash."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from rules.conditions.threshold import OPERATORS
from rules.engine.evaluate import Evaluation
from rules.event import Event
from rules.rule import Rule
from rules.windows.memory import MemoryWindow
from rules.windows.queries import Window
from support.rule_factory import THRESHOLD, at, decide, event, in_order, rule, settle

SPAN_SECONDS = 60
GROUPS = ("shop", "till")
ZSCORE = {"type": "zscore", "bucket_seconds": 5, "baseline_buckets": 2, "threshold": 1.5, "group_by": ["source"]}


@dataclass(frozen=True)
class Arrivals:
    """Batches of events.

    `lost` has a value for each batch: True if the worker crashes before it records the batch. A lost batch is
    redelivered.
    """

    events: list[Event]
    batches: list[list[Event]]
    lost: list[bool]

    def evaluate(self, window: Window, *rules: Rule) -> list[Evaluation]:
        """Return the recorded evaluations of workers that share the window."""
        recorded: list[Evaluation] = []
        for batch, lost in zip(self.batches, self.lost, strict=True):
            evaluation = decide(batch, window, *rules)
            if not lost:
                recorded.append(settle(evaluation, window))
        redelivered = [batch for batch, lost in zip(self.batches, self.lost, strict=True) if lost]
        return recorded + [settle(decide(batch, window, *rules), window) for batch in redelivered]


@st.composite
def arrivals(draw: st.DrawFn) -> Arrivals:
    half_seconds = st.integers(0, 2 * SPAN_SECONDS).map(lambda halves: halves / 2)
    microseconds = st.integers(0, SPAN_SECONDS * 10**6).map(lambda micros: micros / 10**6)
    times_and_groups = st.tuples(half_seconds | microseconds, st.sampled_from(GROUPS))
    events = [
        event(number, seconds, source=source, received_at=at(SPAN_SECONDS))
        for number, (seconds, source) in enumerate(draw(st.lists(times_and_groups, min_size=1, max_size=40)))
    ]
    repeated = draw(st.lists(st.sampled_from(events), max_size=10))
    order = draw(st.permutations(events + repeated))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=8)))
    batches = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True) if start < end]
    lost = draw(st.lists(st.booleans(), min_size=len(batches), max_size=len(batches)))
    return Arrivals(events, batches, lost)


needs = st.integers(1, 6)
windows = st.integers(1, 20)
cooldowns = st.integers(1, 30)
#: Operator, value and `window_seconds` of the rules that share windows.
limits = st.lists(st.tuples(st.sampled_from(list(OPERATORS)), needs, windows), min_size=2, max_size=6)


def at_least(needed: int, window_seconds: int, **fields: Any) -> Rule:
    """Return a rule that fires for at least `needed` events of a source within `window_seconds` seconds."""
    condition = THRESHOLD | {"operator": ">=", "value": needed, "group_by": ["source"]}
    return rule(condition, window_seconds=window_seconds, allowed_lateness_seconds=SPAN_SECONDS, **fields)


def triggers(events: Iterable[Event], needed: int, window_seconds: int) -> set[str]:
    """Return the ids of the events for which a rule of `at_least` fires without a cooldown."""
    by_group = [[each for each in events if each.source == group] for group in GROUPS]
    return set().union(*(in_order(group, needed, window_seconds) for group in by_group))


def check_any_order(arrivals: Arrivals, window: Window, needed: int, window_seconds: int) -> None:
    """Check that a rule of `at_least` fires for exactly the events of `triggers`, without late events and errors."""
    recorded = arrivals.evaluate(window, at_least(needed, window_seconds))
    assert {firing.event_id for each in recorded for firing in each.firings} == triggers(
        arrivals.events, needed, window_seconds
    )
    assert all(each.late == 0 and not each.faults for each in recorded)


def check_cooldown(arrivals: Arrivals, window: Window, needed: int, window_seconds: int, cooldown_seconds: int) -> None:
    """Check the cooldowns of each group.

    Any two firings are at least one cooldown apart. Each event of `triggers` is less than one cooldown from a firing.
    """
    recorded = arrivals.evaluate(window, at_least(needed, window_seconds, cooldown_seconds=cooldown_seconds))
    times = {each.event_id: (each.source, each.timestamp) for each in arrivals.events}
    firings = {times[firing.event_id] for each in recorded for firing in each.firings}
    assert not any(one != other and _near(one, other, cooldown_seconds) for one in firings for other in firings)
    for event_id in triggers(arrivals.events, needed, window_seconds):
        assert any(_near(times[event_id], other, cooldown_seconds) for other in firings)


def check_shared_windows(
    arrivals: Arrivals, window: Window, chosen: Iterable[tuple[str, int, int]], cooldown_seconds: int
) -> None:
    """Check that each of several rules with one scope gives the same evaluations together with the others as alone.

    `chosen` has the operator, the value and `window_seconds` of each rule. Alone, a rule has windows in memory.
    """
    rules = [
        rule(
            THRESHOLD | {"operator": operator, "value": value, "group_by": ["source"]},
            rule_id=str(number),
            window_seconds=seconds,
            allowed_lateness_seconds=SPAN_SECONDS,
            cooldown_seconds=cooldown_seconds,
        )
        for number, (operator, value, seconds) in enumerate(chosen)
    ]
    together = arrivals.evaluate(window, *rules)
    for each in rules:
        alone = arrivals.evaluate(MemoryWindow(), each)
        assert [_of(each, evaluation) for evaluation in together] == [_of(each, evaluation) for evaluation in alone]


def _of(one: Rule, evaluation: Evaluation) -> Any:
    firings, late = _comparable(evaluation)
    return [firing for firing in firings if firing[0] == one.rule_id], late


def check_same_answers(arrivals: Arrivals, one: Window, other: Window, cooldown_seconds: int) -> None:
    """Check that both windows give the same firings and late events, with rules for every type of window query."""
    thresholds = [
        rule(THRESHOLD | {"operator": operator}, rule_id=operator, cooldown_seconds=cooldown_seconds)
        for operator in (">", ">=", "<", "<=", "==", "!=")
    ]
    rules = [*thresholds, rule(ZSCORE, rule_id="z", cooldown_seconds=cooldown_seconds)]
    for batch in arrivals.batches:
        first, second = (settle(decide(batch, window, *rules), window) for window in (one, other))
        assert _comparable(first) == _comparable(second)


def _near(one: Sequence[Any], other: Sequence[Any], seconds: int) -> bool:
    return one[0] == other[0] and abs(one[1] - other[1]) < timedelta(seconds=seconds)


def _comparable(evaluation: Evaluation) -> Any:
    firings = [
        (each.rule.rule_id, each.group_key, each.event_id, each.occurred_at, each.verdict)
        for each in evaluation.firings
    ]
    return sorted(firings, key=lambda each: each[:3]), evaluation.late

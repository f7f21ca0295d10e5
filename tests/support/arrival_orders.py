"""Events that arrive in any order, more than once, and in batches whose worker may die."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from rules.engine.evaluate import Evaluation
from rules.event import Event
from rules.windows.queries import Window
from support.rule_factory import THRESHOLD, at, decide, event, in_order, rule, settle

SPAN_SECONDS = 60
GROUPS = ("shop", "till")
ZSCORE = {"type": "zscore", "bucket_seconds": 5, "baseline_buckets": 2, "threshold": 1.5, "group_by": ["source"]}


@dataclass(frozen=True)
class Arrivals:
    """Batches of events; of those that are `lost`, nobody heard the outcome, and they come once more at the end."""

    events: list[Event]
    batches: list[list[Event]]
    lost: list[bool]

    def heard(self, window: Window, *rules: Any) -> list[Evaluation]:
        """What workers that share the window tell of the batches that are not lost."""
        heard: list[Evaluation] = []
        for batch, lost in zip(self.batches, self.lost, strict=True):
            found = decide(batch, window, *rules)
            if not lost:
                heard.append(settle(found, window))
        again = [batch for batch, lost in zip(self.batches, self.lost, strict=True) if lost]
        return heard + [settle(decide(batch, window, *rules), window) for batch in again]


@st.composite
def arrivals(draw: st.DrawFn) -> Arrivals:
    half_seconds = st.integers(0, 2 * SPAN_SECONDS).map(lambda halves: halves / 2)
    microseconds = st.integers(0, SPAN_SECONDS * 10**6).map(lambda micros: micros / 10**6)
    spots = st.tuples(half_seconds | microseconds, st.sampled_from(GROUPS))
    events = [
        event(number, seconds, source=source, received_at=at(SPAN_SECONDS))
        for number, (seconds, source) in enumerate(draw(st.lists(spots, min_size=1, max_size=40)))
    ]
    again = draw(st.lists(st.sampled_from(events), max_size=10))
    order = draw(st.permutations(events + again))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=8)))
    batches = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True) if start < end]
    lost = draw(st.lists(st.booleans(), min_size=len(batches), max_size=len(batches)))
    return Arrivals(events, batches, lost)


needs = st.integers(1, 6)
windows = st.integers(1, 20)
cooldowns = st.integers(1, 30)


def counted(needed: int, window_seconds: int, **fields: Any) -> Any:
    condition = THRESHOLD | {"operator": ">=", "value": needed, "group_by": ["source"]}
    return rule(condition, window_seconds=window_seconds, allowed_lateness_seconds=SPAN_SECONDS, **fields)


def triggers(events: Iterable[Event], needed: int, window_seconds: int) -> set[str]:
    by_group = [[each for each in events if each.source == group] for group in GROUPS]
    return set().union(*(in_order(group, needed, window_seconds) for group in by_group))


def check_any_order(case: Arrivals, window: Window, needed: int, window_seconds: int) -> None:
    """What is heard is what one judge, who sees all in order, would say."""
    found = case.heard(window, counted(needed, window_seconds))
    assert {firing.event_id for each in found for firing in each.firings} == triggers(
        case.events, needed, window_seconds
    )
    assert all(each.late == 0 and not each.faults for each in found)


def check_cooldown(case: Arrivals, window: Window, needed: int, window_seconds: int, cooldown_seconds: int) -> None:
    """Never two firings of a group within the cooldown, and none of what the judge says is further from one."""
    found = case.heard(window, counted(needed, window_seconds, cooldown_seconds=cooldown_seconds))
    times = {each.event_id: (each.source, each.timestamp) for each in case.events}
    spoken = {times[firing.event_id] for each in found for firing in each.firings}
    assert not any(one != other and _near(one, other, cooldown_seconds) for one in spoken for other in spoken)
    for event_id in triggers(case.events, needed, window_seconds):
        assert any(_near(times[event_id], other, cooldown_seconds) for other in spoken)


def check_same_answers(case: Arrivals, one: Window, other: Window, cooldown_seconds: int) -> None:
    """Two windows agree on every kind of question."""
    operators = [
        rule(THRESHOLD | {"operator": operator}, rule_id=operator, cooldown_seconds=cooldown_seconds)
        for operator in (">", ">=", "<", "<=", "==", "!=")
    ]
    rules = [*operators, rule(ZSCORE, rule_id="z", cooldown_seconds=cooldown_seconds)]
    for batch in case.batches:
        assert _essence(settle(decide(batch, one, *rules), one)) == _essence(
            settle(decide(batch, other, *rules), other)
        )


def _near(one: Sequence[Any], other: Sequence[Any], seconds: int) -> bool:
    return one[0] == other[0] and abs(one[1] - other[1]) < timedelta(seconds=seconds)


def _essence(found: Evaluation) -> Any:
    firings = [
        (each.rule.rule_id, each.group_key, each.event_id, each.occurred_at, each.verdict) for each in found.firings
    ]
    return sorted(firings, key=lambda each: each[:3]), found.late

"""Tests of the evaluation of a batch: calls to the window, late events, cooldowns, and exceptions of rules."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import pytest
from marshmallow import fields
from support.rule_factory import THRESHOLD, at, decide, event, fired, row, rule

from rules.conditions import CONDITIONS
from rules.conditions.base import ConditionSchema
from rules.event import Event
from rules.rule import parse_rule
from rules.scope import Scope, getter
from rules.verdict import Selection, Verdict
from rules.windows.memory import MemoryWindow
from rules.windows.queries import CooldownClaim, Member, NthWithin, WindowQuery, WindowResult, WindowUpdate


class RecordingWindow(MemoryWindow):
    """Window that records the calls of its methods and the observed members."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.members: list[Member] = []
        self.queries: list[WindowQuery] = []

    def observe(self, updates: Sequence[WindowUpdate]) -> list[WindowResult]:
        self.calls.append("observe")
        self.queries += [update.query for update in updates]
        self.members += [member for update in updates for member in update.members]
        return super().observe(updates)

    def check_cooldowns(self, claims: Sequence[CooldownClaim]) -> list[list[int]]:
        self.calls.append("check_cooldowns")
        return super().check_cooldowns(claims)


class BrokenScope:
    """Scope that raises an exception when it matches an event."""

    key = "broken"
    index_keys = ((None, None),)
    index_filter = None

    def matches(self, each: Event) -> bool:
        raise LookupError("no match")


class Broken:
    """Condition that raises an exception in the step `where`: match, value, evaluate or selection."""

    windowed: ClassVar[Literal[True]] = True
    query = NthWithin.of(1, 10, 3600)

    def __init__(self, where: str) -> None:
        self.where = where
        self.scope: Any = BrokenScope() if where == "match" else Scope.of({"event_type": "error"}, [])
        self.value_of: Any = self._value if where == "value" else None

    def _value(self, each: Event) -> float:
        raise ValueError("no\nvalue")

    def evaluate(self, result: WindowResult, group_suffix: str) -> Verdict:
        if self.where == "evaluate":
            raise ZeroDivisionError("x" * 1000)
        return Verdict(True, "", 1, 0, {})

    def selection(self, at: int, group: Mapping[str, Any]) -> Selection:
        raise OverflowError("date value out of range")


class BrokenSchema(ConditionSchema):
    """Schema of `Broken`."""

    type = fields.String()
    where = fields.String()

    def build(self, values: Mapping[str, Any]) -> Broken:
        return Broken(values["where"])


@pytest.fixture
def broken() -> Iterator[None]:
    CONDITIONS["broken"] = BrokenSchema
    yield
    del CONDITIONS["broken"]


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("match", "LookupError: no match"),
        ("value", "ValueError: no value"),
        ("evaluate", "ZeroDivisionError: " + "x" * 281),
        ("selection", "OverflowError: date value out of range"),
    ],
)
def test_a_rule_that_raises_is_a_fault_and_does_not_affect_others(where: str, reason: str) -> None:
    bad = parse_rule(row({"type": "broken", "where": where}, rule_id="bad"))
    found = decide([event(1), event(2), event(3)], MemoryWindow(), bad, rule())
    assert [(fault.rule.rule_id, fault.reason) for fault in found.faults] == [("bad", reason)]
    assert [firing.rule.rule_id for firing in found.firings] == ["r1"]


@pytest.mark.usefixtures("broken")
def test_a_scope_that_raises_is_a_fault_of_all_its_rules_and_of_no_other() -> None:
    bad = [parse_rule(row({"type": "broken", "where": "match"}, rule_id=name)) for name in ("b1", "b2")]
    found = decide([event(1), event(2), event(3)], MemoryWindow(), *bad, rule())
    assert [fault.rule.rule_id for fault in found.faults] == ["b1", "b2"]
    assert [firing.rule.rule_id for firing in found.firings] == ["r1"]


class SumSchema(ConditionSchema):
    """Schema of `SumCondition`."""

    type = fields.String()

    def build(self, values: Mapping[str, Any]) -> Any:
        return SumCondition()


class SumCondition(Broken):
    """Condition that takes the value of each member from `payload.amount`."""

    def __init__(self) -> None:
        super().__init__("nowhere")
        self.value_of = getter("payload.amount")


def test_the_condition_gives_each_member_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONDITIONS, "sum", SumSchema)
    window, events = RecordingWindow(), [event(1, payload={"amount": 2.5}), event(2, payload={"amount": 4})]
    decide(events, window, parse_rule(row({"type": "sum"})))
    assert [value for _, _, value in window.members] == [2.5, 4]
    decide(events, window, rule())
    assert [value for _, _, value in window.members[2:]] == [1, 1]


class UnavailableWindow(MemoryWindow):
    """Window whose server is unavailable."""

    def observe(self, updates: Sequence[WindowUpdate]) -> list[WindowResult]:
        raise ConnectionError("unavailable")


def test_an_unavailable_window_is_not_a_fault_of_a_rule() -> None:
    with pytest.raises(ConnectionError):
        decide([event(1)], UnavailableWindow(), rule())


def test_a_batch_needs_one_call_for_the_windows_and_one_for_the_cooldowns() -> None:
    window = RecordingWindow()
    rules = [rule(rule_id=f"r{number}", cooldown_seconds=60) for number in range(3)]
    decide([event(1), event(2)], window, *rules)
    assert window.calls == ["observe"]
    decide([event(3), event(4)], window, *rules)
    assert window.calls == ["observe", "observe", "check_cooldowns"]


def test_no_call_is_made_for_events_without_rules_and_rules_without_a_cooldown() -> None:
    window = RecordingWindow()
    decide([event(1, event_type="order")], window, rule())
    assert window.calls == []
    decide([event(1), event(2), event(3)], window, rule())
    assert window.calls == ["observe"]


def test_rules_of_one_scope_add_each_event_once_to_one_window() -> None:
    window = RecordingWindow()
    rules = [rule(THRESHOLD | {"value": value}, rule_id=f"r{value}") for value in range(30)]
    same = [rule(rule_id=f"same{number}") for number in range(30)]
    found = decide([event(1), event(2), event(3)], window, *rules, *same)
    assert len(window.members) == 3
    assert [query.spans for query in window.queries if isinstance(query, NthWithin)] == [
        tuple((value + 1, 10_000_000) for value in range(30))
    ]
    assert len(found.firings) == 3 + 2 + 1 + len(same)


def test_rules_of_one_scope_with_another_lateness_query_or_type_have_other_windows() -> None:
    window = RecordingWindow()
    drift = {"type": "timestamp_drift", "filters": THRESHOLD["filters"], "max_drift_seconds": 5}
    zscore = {"type": "zscore", "filters": THRESHOLD["filters"], "bucket_seconds": 1, "threshold": 1}
    rules = [
        rule(rule_id="nth"),
        rule(rule_id="late", allowed_lateness_seconds=60),
        rule(THRESHOLD | {"operator": "<"}, rule_id="count"),
        rule(zscore | {"baseline_buckets": 2}, rule_id="z2"),
        rule(zscore | {"baseline_buckets": 3}, rule_id="z3"),
        rule(drift, rule_id="drift"),
    ]
    old = event(1, 0, received_at=at(100))
    found = decide([old], window, *rules)
    assert found.late == 1
    assert [type(query).__name__ for query in window.queries] == [
        "NthWithin",
        "CountWithin",
        "BucketBaseline",
        "BucketBaseline",
    ]
    assert {firing.rule.rule_id for firing in found.firings} == {"count", "drift"}


def test_a_new_rule_counts_the_events_that_its_window_contains() -> None:
    window, first, second = MemoryWindow(), rule(), rule(THRESHOLD | {"operator": ">=", "value": 4}, rule_id="r2")
    assert fired([event(1), event(2), event(3)], window, first) == [3]
    found = decide([event(4)], window, first, second).firings
    assert [(firing.rule.rule_id, firing.event_id) for firing in found] == [
        ("r1", event(4).event_id),
        ("r2", event(4).event_id),
    ]


def test_a_new_rule_does_not_fire_for_events_that_arrived_before() -> None:
    window, new = MemoryWindow(), rule(THRESHOLD | {"value": 0}, rule_id="r2")
    fired([event(1), event(2)], window, rule())
    assert [firing.event_id for firing in decide([event(3)], window, new).firings] == [event(3).event_id]


def test_each_rule_has_its_own_order_of_the_paths_of_a_group() -> None:
    orders = (["source", "event_type"], ["event_type", "source", "event_type"])
    rules = [rule(THRESHOLD | {"value": 0, "group_by": each}, rule_id=str(n)) for n, each in enumerate(orders)]
    window = RecordingWindow()
    found = decide([event(1)], window, *rules).firings
    assert len(window.queries) == 1
    assert [list(firing.group) for firing in found] == [["source", "event_type"], ["event_type", "source"]]
    assert [firing.verdict.reason.partition(" (")[2] for firing in found] == [
        "source=shop, event_type=error)",
        "event_type=error, source=shop)",
    ]
    assert len({firing.group_key for firing in found}) == 1


@pytest.mark.parametrize(("received", "late"), [(0, 0), (-60, 0), (-60.000001, 1), (100, 0), (100.000001, 1)], ids=str)
def test_a_window_accepts_events_within_clock_skew_and_allowed_lateness(received: float, late: int) -> None:
    late_rule = rule(THRESHOLD | {"value": 0}, allowed_lateness_seconds=100)
    found = decide([event(1, 0, received_at=at(received))], MemoryWindow(), late_rule)
    assert (found.late, len(found.firings)) == (late, 1 - late)


def test_a_late_event_is_counted_once_for_all_its_rules() -> None:
    rules = [rule(rule_id=f"r{number}") for number in range(3)]
    late = event(1, received_at=at(10_000))
    assert decide([late, event(2)], MemoryWindow(), *rules).late == 1
    assert decide([late], MemoryWindow(), rule(THRESHOLD | {"filters": {"payload.a": 1}})).late == 0


def test_late_and_future_events_do_not_change_a_window() -> None:
    window, late_rule = MemoryWindow(), rule(allowed_lateness_seconds=100)
    decide([event(1), event(2)], window, late_rule)
    far = [event(10 + number, 10**8 + number, received_at=at(2)) for number in range(5)]
    old = [event(20 + number, number, received_at=at(1000)) for number in range(5)]
    assert fired(far + old, window, late_rule) == []
    assert fired([event(3)], window, late_rule) == [3]


def test_a_rule_fires_once_in_each_cooldown() -> None:
    assert fired((event(number) for number in range(30)), MemoryWindow(), rule(cooldown_seconds=10)) == [2, 12, 22]


def test_a_cooldown_suppresses_earlier_events_too() -> None:
    window, cool = MemoryWindow(), rule(THRESHOLD | {"value": 0}, cooldown_seconds=10)
    assert fired([event(50)], window, cool) == [50]
    assert fired([event(41), event(60)], window, cool) == [60]
    assert fired([event(40)], window, cool) == [40]


def test_a_firing_without_a_recorded_anomaly_starts_no_cooldown() -> None:
    """The worker may have crashed before it recorded the anomaly; in this case the rule must fire for a later event."""
    window, cool = MemoryWindow(), rule(cooldown_seconds=100)
    assert decide([event(1), event(2), event(3)], window, cool).firings
    assert fired([event(4)], window, cool) == [4]
    assert fired([event(5)], window, cool) == []


def test_a_redelivered_event_fires_again_within_the_cooldown_that_it_has_started() -> None:
    window, cool = MemoryWindow(), rule(cooldown_seconds=100)
    events = [event(1), event(2), event(3), event(4)]
    assert fired(events, window, cool) == [3]
    assert fired(events, window, cool) == [3]


def test_each_group_has_its_own_cooldown() -> None:
    cool = rule(THRESHOLD | {"value": 0, "group_by": ["source"]}, cooldown_seconds=100)
    events = [event(number, source=f"s{number % 2}") for number in range(4)]
    assert fired(events, MemoryWindow(), cool) == [0, 1]


def test_firings_are_in_order_of_time() -> None:
    rules = [rule(THRESHOLD | {"value": 0}, rule_id="a"), rule(THRESHOLD | {"value": 1}, rule_id="b")]
    assert fired([event(3), event(1), event(2)], MemoryWindow(), *rules) == [1, 2, 2, 3, 3]


def test_a_timestamp_can_have_any_time_zone() -> None:
    with_offset = Event(**{**_fields(event(1)), "timestamp": at(1).astimezone()})
    assert fired([with_offset, event(2), event(3)], MemoryWindow(), rule()) == [3]


def _fields(each: Event) -> dict[str, Any]:
    return {name: getattr(each, name) for name in Event.__struct_fields__}

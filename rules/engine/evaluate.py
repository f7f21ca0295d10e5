"""Evaluation of rules on a batch of events. Its only side effects are changes of the window."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from typing import Any, NamedTuple, Self, TypeVar

from rules.engine.index import RuleSet
from rules.event import Event, microseconds, moment
from rules.rule import Rule, digest
from rules.scope import canonical_json
from rules.verdict import Selection, Verdict, format_group
from rules.windows.queries import CooldownClaim, Member, Window, WindowResult, WindowUpdate

MAX_REASON_CHARACTERS = 300  # maximum length of the reason of a fault

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule that fires for a group because of the event `event_id`, which may be an event of an earlier batch.

    `selection` describes the stored events that caused the verdict; None means only the event `event_id`. The caller
    passes `claim` to `Window.start_cooldowns` after recording the anomaly, so that the cooldown of the group starts.
    """

    rule: Rule
    group: dict[str, Any]
    group_key: str
    event_id: str
    occurred_at: datetime
    verdict: Verdict
    selection: Selection | None
    claim: CooldownClaim


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that raised an exception, and the reason for its suspension."""

    rule: Rule
    reason: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of the evaluation of a batch. `late` is the number of events outside the allowed lateness of a rule."""

    firings: list[Firing]
    faults: list[Fault]
    late: int


def evaluate_batch(events: Sequence[Event], rules: RuleSet, window: Window) -> Evaluation:
    """Evaluate the rules that apply to each event, with at most two calls to the window.

    An exception of a rule becomes a `Fault` and does not affect other rules. Exceptions of the window are not caught:
    the caller can evaluate the batch again, because evaluation is idempotent.
    """
    batch = _Batch()
    for event in events:
        batch.add(event, rules)
    batch.query(window)
    return Evaluation(batch.firings(window), list(batch.faults.values()), batch.late)


class _Trigger(NamedTuple):
    """A verdict that fires for an event. The cooldown starts at `at`. Triggers are sorted by `at` and event id."""

    at: int
    event_id: str
    occurred_at: datetime
    verdict: Verdict


@dataclass(slots=True)
class _Series:
    """The events of the batch that belong to one rule and group, and their triggers."""

    rule: Rule
    group: dict[str, Any]
    group_key: str
    digest: str
    newest: int = 0
    members: set[Member] = field(default_factory=set)
    triggers: dict[str, _Trigger] = field(default_factory=dict)

    @classmethod
    def of(cls, rule: Rule, group: dict[str, Any]) -> Self:
        group_key = canonical_json(group)
        return cls(rule, group, group_key, digest(group_key))

    def add(self, event: Event, at: int, received: int) -> bool:
        """Add a matching event; return False if it is outside the allowed lateness of a window."""
        condition = self.rule.condition
        in_time = self.rule.is_within_lateness(received - at)
        if not condition.windowed:
            # If the timestamp is outside the allowed lateness, the cooldown starts at the time of arrival: an event of
            # the year 9999 would otherwise suppress alerts in that year instead of now.
            verdict = condition.evaluate(event, format_group(self.group))
            self._conclude(_Trigger(at if in_time else received, event.event_id, event.timestamp, verdict))
            return True
        if in_time:
            value = 1 if condition.value_of is None else condition.value_of(event)
            self.members.add((at, event.event_id, value))
            self.newest = max(self.newest, min(at, received))
        return in_time

    def update(self) -> WindowUpdate:
        condition = self.rule.condition
        assert condition.windowed
        return WindowUpdate(self.rule.window_key + self.digest, condition.query, self.newest, sorted(self.members))

    def evaluate(self, result: WindowResult) -> None:
        condition = self.rule.condition
        assert condition.windowed
        verdict = condition.evaluate(result, format_group(self.group))
        self._conclude(_Trigger(result.at, result.event_id, moment(result.at), verdict))

    def _conclude(self, trigger: _Trigger) -> None:
        if trigger.verdict.fires:
            self.triggers[trigger.event_id] = trigger

    def claim(self) -> CooldownClaim:
        return self._claim(sorted(self.triggers.values()))

    def _claim(self, triggers: Iterable[_Trigger]) -> CooldownClaim:
        return self.rule.cooldown_claim(self.digest, [(each.at, each.event_id) for each in triggers])

    def firings(self, wins: Iterable[bool]) -> list[Firing]:
        """Return a firing for each trigger that no cooldown suppresses.

        `wins` has one bool for each event of `claim`: whether the event may start a cooldown.
        """
        return [
            self._firing(trigger) for trigger, win in zip(sorted(self.triggers.values()), wins, strict=False) if win
        ]

    def _firing(self, trigger: _Trigger) -> Firing:
        rule, condition = self.rule, self.rule.condition
        return Firing(
            rule,
            self.group,
            self.group_key,
            trigger.event_id,
            trigger.occurred_at,
            trigger.verdict,
            condition.selection(trigger.at, self.group) if condition.windowed else None,
            self._claim([trigger]),
        )


@dataclass(slots=True)
class _Batch:
    """The state of one evaluation."""

    series: dict[tuple[str, str], _Series] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    late: int = 0

    def add(self, event: Event, rules: RuleSet) -> None:
        """Add an event to the series of each rule that applies to it."""
        at, received = microseconds(event.timestamp), microseconds(event.received_at)
        added = [self._guard(rule, self._add, rule, event, at, received) for rule in rules.candidates(event)]
        self.late += False in added

    def query(self, window: Window) -> None:
        """Update the windows of all series with one call, and evaluate the results."""
        changed = [series for series in self.series.values() if series.members]
        updated = [(series, update) for series in changed if (update := self._guard(series.rule, series.update))]
        for result in window.observe([update for _, update in updated]) if updated else ():
            series, _ = updated[result.position]
            self._guard(series.rule, series.evaluate, result)

    def firings(self, window: Window) -> list[Firing]:
        """Return the firings that no cooldown suppresses, in order of time."""
        triggered = [series for series in self.series.values() if series.triggers]
        claims = [series.claim() for series in triggered if series.rule.cooldown_seconds]
        checked = iter(window.check_cooldowns(claims) if claims else ())
        firings: list[Firing] = []
        for series in triggered:
            wins = next(checked) if series.rule.cooldown_seconds else repeat(True)
            firings += self._guard(series.rule, series.firings, wins) or ()
        return sorted(firings, key=lambda firing: (firing.occurred_at, firing.event_id))

    def _add(self, rule: Rule, event: Event, at: int, received: int) -> bool | None:
        """Add an event to its series if the rule applies to it.

        Return False if the event is outside the allowed lateness of a window, None if the rule does not apply.
        """
        scope = rule.condition.scope
        if not scope.matches(event):
            return None
        values = scope.values(event)
        key = rule.rule_id, repr(values)
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = _Series.of(rule, scope.group(values))
        return series.add(event, at, received)

    def _guard(self, rule: Rule, act: Callable[..., T], *arguments: Any) -> T | None:
        """Call `act` and return its result; record an exception as a fault of the rule and return None."""
        try:
            return act(*arguments)
        except Exception as error:
            self.faults.setdefault(rule.rule_id, Fault(rule, fault_reason(error)))
            return None


def fault_reason(error: Exception) -> str:
    """Return the error as one line of at most `MAX_REASON_CHARACTERS`: the reason of a suspension."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON_CHARACTERS]

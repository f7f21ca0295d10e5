"""Evaluation of rules on a batch of events. Its only side effects are changes of the window."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from rules.engine.index import RuleSet
from rules.engine.scope_rules import RuleWindow, ScopeRules, WindowSet
from rules.engine.series import Firing, Series
from rules.event import Event, microseconds
from rules.rule import Rule, digest
from rules.scope import canonical_json
from rules.verdict import format_group
from rules.windows.queries import Member, Window, WindowResult, WindowUpdate

MAX_REASON_CHARACTERS = 300  # maximum length of the reason of a fault

T = TypeVar("T")


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


@dataclass(slots=True)
class _Members:
    """The events of the batch that belong to the windows of one window set and group."""

    window_set: WindowSet
    newest: int = 0
    events: set[Member] = field(default_factory=set)

    def add(self, event: Event, at: int, received: int) -> bool:
        """Add a matching event; return False if it is outside the allowed lateness of the windows."""
        if not self.window_set.is_within_lateness(received - at):
            return False
        value_of = self.window_set.value_of
        self.events.add((at, event.event_id, 1 if value_of is None else value_of(event)))
        newest = min(at, received)
        if newest > self.newest:
            self.newest = newest
        return True

    def updates(self, group_digest: str) -> list[WindowUpdate]:
        members = sorted(self.events)
        windows = self.window_set.windows
        return [WindowUpdate(each.key + group_digest, each.query, self.newest, members) for each in windows]


@dataclass(slots=True)
class _Group:
    """The events of the batch in one group of a scope, and the series of its rules, by rule id."""

    group: dict[str, Any]
    key: str
    digest: str
    members: list[_Members]
    series: dict[str, Series] = field(default_factory=dict)
    #: The group and its text, with the paths in the order of `group_by`, by this order.
    ordered: dict[tuple[str, ...], tuple[dict[str, Any], str]] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: ScopeRules, group: dict[str, Any]) -> Self:
        group_key = canonical_json(group)
        return cls(group, group_key, digest(group_key), [_Members(each) for each in rules.window_sets])

    def series_of(self, rule: Rule) -> Series:
        series = self.series.get(rule.rule_id)
        if series is None:
            group, suffix = self._ordered(rule.condition.scope.group_by)
            series = self.series[rule.rule_id] = Series(rule, group, self.key, self.digest, suffix)
        return series

    def _ordered(self, group_by: tuple[str, ...]) -> tuple[dict[str, Any], str]:
        if group_by not in self.ordered:
            group = {path: self.group[path] for path in group_by}
            self.ordered[group_by] = group, format_group(group)
        return self.ordered[group_by]

    def evaluate_event(self, rule: Rule, event: Event, at: int, received: int) -> None:
        self.series_of(rule).evaluate_event(event, at, received)

    def evaluate_result(self, rule: Rule, result: WindowResult) -> None:
        self.series_of(rule).evaluate_result(result)


@dataclass(slots=True)
class _Batch:
    """The state of one evaluation."""

    groups: dict[tuple[ScopeRules, str], _Group] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    late: int = 0

    def add(self, event: Event, rules: RuleSet) -> None:
        """Add an event to its group of each scope that applies to it."""
        at, received = microseconds(event.timestamp), microseconds(event.received_at)
        late = False
        texts: dict[tuple[str, ...], str] = {}
        for applying in rules.candidates(event):
            try:
                group = self._group(applying, event, texts)
            except Exception as error:
                self._fail(applying.rules, error)
                continue
            if group is not None:
                late |= self._add(applying, group, event, at, received)
        self.late += late

    def _group(self, applying: ScopeRules, event: Event, texts: dict[tuple[str, ...], str]) -> _Group | None:
        """Return the group of an event, or None if the scope does not apply to the event.

        `texts` has the text of the event's values by `group_by`, which many scopes have in common.
        """
        scope = applying.scope
        if not scope.matches(event):
            return None
        text = texts.get(scope.group_by)
        if text is None:
            text = texts[scope.group_by] = repr(scope.values(event))
        key = applying, text
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = _Group.of(applying, scope.group(scope.values(event)))
        return group

    def _add(self, applying: ScopeRules, group: _Group, event: Event, at: int, received: int) -> bool:
        """Add an event to its group; return whether it is outside the allowed lateness of a window."""
        for rule in applying.stateless:
            self._guard(rule, group.evaluate_event, rule, event, at, received)
        late = False
        for members in group.members:
            try:
                late |= not members.add(event, at, received)
            except Exception as error:
                self._fail(members.window_set.rules, error)
        return late

    def query(self, window: Window) -> None:
        """Update the windows of all groups with one call, and evaluate the results."""
        updates: list[WindowUpdate] = []
        updated: list[tuple[_Group, RuleWindow]] = []
        for group in self.groups.values():
            for members in group.members:
                if members.events:
                    updates += members.updates(group.digest)
                    updated += [(group, each) for each in members.window_set.windows]
        for result in window.observe(updates) if updates else ():
            group, observed = updated[result.position]
            for rule in observed.rules[result.span]:
                self._guard(rule, group.evaluate_result, rule, result)

    def firings(self, window: Window) -> list[Firing]:
        """Return the firings that no cooldown suppresses, in order of time."""
        triggered = [series for group in self.groups.values() for series in group.series.values() if series.triggers]
        claims = [series.claim() for series in triggered if series.rule.cooldown_seconds]
        checked = iter(window.check_cooldowns(claims) if claims else ())
        firings: list[Firing] = []
        for series in triggered:
            wins = next(checked) if series.rule.cooldown_seconds else None
            if wins != []:
                firings += self._guard(series.rule, series.firings, wins) or ()
        return sorted(firings, key=lambda firing: (firing.occurred_at, firing.event_id))

    def _guard(self, rule: Rule, act: Callable[..., T], *arguments: Any) -> T | None:
        """Call `act` and return its result; record an exception as a fault of the rule and return None."""
        try:
            return act(*arguments)
        except Exception as error:
            self._fail([rule], error)
            return None

    def _fail(self, rules: Iterable[Rule], error: Exception) -> None:
        """Record a fault of each of the rules."""
        for rule in rules:
            self.faults.setdefault(rule.rule_id, Fault(rule, fault_reason(error)))


def fault_reason(error: Exception) -> str:
    """Return the error as one line of at most `MAX_REASON_CHARACTERS`: the reason of a suspension."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON_CHARACTERS]

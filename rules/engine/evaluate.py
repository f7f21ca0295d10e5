"""Apply rules to a batch of events: pure, but for what the window remembers."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from typing import Any, NamedTuple, Self, TypeVar

from rules.engine.index import RuleSet
from rules.event import Event, microseconds, moment
from rules.rule import Rule, digest
from rules.scope import canonical
from rules.verdict import Selection, Verdict, words
from rules.windows.queries import CooldownClaim, Window, WindowResult, WindowUpdate

MAX_REASON_CHARACTERS = 300  # characters of a fault's reason

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule fires for a group, because of the event `event_id` at `occurred_at`.

    It may be an event of an earlier batch. `selection` finds the events behind the verdict; None: the event alone is.
    `claim` silences the others of the group: the window is to be told once the anomaly is recorded.
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
    """A rule raised: it ought to be suspended, for this reason."""

    rule: Rule
    reason: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a batch came to. `late`: how many events were too old, or too far ahead, for a window of theirs."""

    firings: list[Firing]
    faults: list[Fault]
    late: int


def evaluate(events: Sequence[Event], rules: RuleSet, window: Window) -> Evaluation:
    """Apply to each event the rules that it index_keys; at most two calls of the window for all of them.

    A rule that raises is a `Fault`, and the others go on. What the window raises passes through: the batch may then
    be evaluated again, which changes nothing that it has done already.
    """
    batch = _Batch()
    for event in events:
        batch.take(event, rules)
    batch.ask(window)
    return Evaluation(batch.announce(window), list(batch.faults.values()), batch.late)


class _Found(NamedTuple):
    """A verdict that fires; they order by time and id."""

    at: int
    event_id: str
    occurred_at: datetime
    verdict: Verdict


@dataclass(slots=True)
class _Series:
    """The events of the batch that are one rule's and one group's, and what the rule concludes from them."""

    rule: Rule
    group: dict[str, Any]
    group_key: str
    digest: str
    newest: int = 0
    members: set[tuple[int, str]] = field(default_factory=set)
    found: dict[str, _Found] = field(default_factory=dict)

    @classmethod
    def of(cls, rule: Rule, group: dict[str, Any]) -> Self:
        group_key = canonical(group)
        return cls(rule, group, group_key, digest(group_key))

    def show(self, event: Event, at: int, received: int) -> bool:
        """Show a matching event to the rule; False: it is out of time."""
        condition = self.rule.condition
        timely = self.rule.timely(received - at)
        if not condition.windowed:
            # Were it claimed for its own time, one event of the year 9999 could silence that year, and a late one ours.
            verdict = condition.judge(event, words(self.group))
            self._conclude(_Found(at if timely else received, event.event_id, event.timestamp, verdict))
            return True
        if timely:
            self.members.add((at, event.event_id))
            self.newest = max(self.newest, min(at, received))
        return timely

    def watch(self) -> WindowUpdate:
        condition = self.rule.condition
        assert condition.windowed
        return WindowUpdate(self.rule.window_key + self.digest, condition.question, self.newest, sorted(self.members))

    def weigh(self, sighting: WindowResult) -> None:
        condition = self.rule.condition
        assert condition.windowed
        verdict = condition.judge(sighting, words(self.group))
        self._conclude(_Found(sighting.at, sighting.event_id, moment(sighting.at), verdict))

    def _conclude(self, found: _Found) -> None:
        if found.verdict.fires:
            self.found[found.event_id] = found

    def claim(self) -> CooldownClaim:
        return self._claim(sorted(self.found.values()))

    def _claim(self, found: Iterable[_Found]) -> CooldownClaim:
        return self.rule.claim(self.digest, [(each.at, each.event_id) for each in found])

    def firings(self, speaks: Iterable[bool]) -> list[Firing]:
        """What is found, in order of (time, id), where the event of that place `speaks`."""
        return [self._firing(found) for found, loud in zip(sorted(self.found.values()), speaks, strict=False) if loud]

    def _firing(self, found: _Found) -> Firing:
        rule, condition = self.rule, self.rule.condition
        selection = condition.selection(found.at, self.group) if condition.windowed else None
        claim = self._claim([found])
        return Firing(
            rule, self.group, self.group_key, found.event_id, found.occurred_at, found.verdict, selection, claim
        )


@dataclass(slots=True)
class _Batch:
    """The state of one evaluation."""

    series: dict[tuple[str, str], _Series] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    late: int = 0

    def take(self, event: Event, rules: RuleSet) -> None:
        at, received = microseconds(event.timestamp), microseconds(event.received_at)
        shown = [self._try(rule, self._show, rule, event, at, received) for rule in rules.candidates(event)]
        self.late += False in shown

    def ask(self, window: Window) -> None:
        shown = [series for series in self.series.values() if series.members]
        asked = [(series, watch) for series in shown if (watch := self._try(series.rule, series.watch))]
        for sighting in window.observe([watch for _, watch in asked]) if asked else ():
            series, _ = asked[sighting.watch]
            self._try(series.rule, series.weigh, sighting)

    def announce(self, window: Window) -> list[Firing]:
        """The firings that no cooldown silences, in order of time."""
        found = [series for series in self.series.values() if series.found]
        claims = [series.claim() for series in found if series.rule.cooldown_seconds]
        free = iter(window.free(claims) if claims else ())
        firings: list[Firing] = []
        for series in found:
            speaks = next(free) if series.rule.cooldown_seconds else repeat(True)
            firings += self._try(series.rule, series.firings, speaks) or ()
        return sorted(firings, key=lambda firing: (firing.occurred_at, firing.event_id))

    def _show(self, rule: Rule, event: Event, at: int, received: int) -> bool | None:
        """Show an event to a rule that may concern it; False: it does, but the event is out of time."""
        scope = rule.condition.scope
        if not scope.matches(event):
            return None
        values = scope.values(event)
        known = rule.rule_id, repr(values)
        series = self.series.get(known)
        if series is None:
            series = self.series[known] = _Series.of(rule, scope.group(values))
        return series.show(event, at, received)

    def _try(self, rule: Rule, act: Callable[..., T], *arguments: Any) -> T | None:
        """Let a rule do something; should it raise, that is its own fault and nobody else's."""
        try:
            return act(*arguments)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.faults.setdefault(rule.rule_id, Fault(rule, reason[:MAX_REASON_CHARACTERS]))
            return None

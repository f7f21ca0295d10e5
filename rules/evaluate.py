"""Apply rules to a batch of events: pure, but for what the window remembers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rules.event import Event, microseconds, moment
from rules.match import RuleSet
from rules.rule import Rule, digest
from rules.scope import canonical
from rules.verdict import Selection, Verdict
from rules.window import Claim, Sighting, Watch, Window

LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule fires for a group, because of the event `event_id` at `occurred_at`.

    It may be an event of an earlier batch. `selection` finds the events behind the verdict; None: the event alone is.
    """

    rule: Rule
    group: dict[str, Any]
    group_key: str
    event_id: str
    occurred_at: datetime
    verdict: Verdict
    selection: Selection | None


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
    """Apply to each event the rules that it concerns; at most two calls of the window for all of them.

    A rule that raises is a `Fault`, and the others go on. What the window raises passes through: the batch may then
    be evaluated again, which changes nothing that it has done already.
    """
    batch = _Batch()
    for event in events:
        batch.take(event, rules)
    batch.ask(window)
    return Evaluation(batch.announce(window), list(batch.faults.values()), batch.late)


@dataclass(slots=True)
class _Series:
    """The events of the batch that are one rule's and one group's."""

    rule: Rule
    group: dict[str, Any]
    group_key: str
    digest: str
    newest: int = 0
    members: set[tuple[int, str]] = field(default_factory=set)

    def watch(self) -> Watch:
        condition = self.rule.condition
        assert condition.windowed
        return Watch(self.rule.window_key + self.digest, condition.question, self.newest, sorted(self.members))

    def claim(self, event_id: str, at: int) -> Claim:
        return self.rule.claim(self.digest, event_id, at)


@dataclass(slots=True)
class _Batch:
    """The state of one evaluation: what each rule has been shown, and what it concludes."""

    series: dict[tuple[str, str], _Series] = field(default_factory=dict)
    found: dict[tuple[str, str, str], tuple[int, _Series, Firing]] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    late: int = 0

    def take(self, event: Event, rules: RuleSet) -> None:
        at, received = microseconds(event.timestamp), microseconds(event.received_at)
        late = False
        for rule in rules.concerning(event):
            if rule.rule_id in self.faults:
                continue
            try:
                if rule.condition.scope.matches(event) and not self._show(rule, event, at, received):
                    late = True
            except Exception as error:
                self._fault(rule, error)
        self.late += late

    def ask(self, window: Window) -> None:
        asked = [series for series in self.series.values() if series.members]
        for sighting in window.observe([series.watch() for series in asked]) if asked else ():
            series = asked[sighting.watch]
            if series.rule.rule_id in self.faults:
                continue
            try:
                self._weigh(series, sighting)
            except Exception as error:
                self._fault(series.rule, error)

    def announce(self, window: Window) -> list[Firing]:
        """The firings that no cooldown silences, in order of time."""
        found = sorted(self.found.values(), key=lambda each: (each[0], each[2].event_id))
        claims = [series.claim(firing.event_id, at) for at, series, firing in found if series.rule.cooldown_seconds]
        granted = iter(window.claim(claims) if claims else ())
        return [firing for _, series, firing in found if not series.rule.cooldown_seconds or next(granted)]

    def _show(self, rule: Rule, event: Event, at: int, received: int) -> bool:
        """Show a matching event to a rule; False: it is out of time."""
        series = self._series(rule, event)
        condition = rule.condition
        timely = rule.timely(received - at)
        if condition.windowed:
            if timely:
                series.members.add((at, event.event_id))
                series.newest = max(series.newest, min(at, received))
            return timely
        verdict = condition.judge(event, series.group)
        # A time of the year 9999 must not silence the rule until then.
        self._conclude(series, at if timely else received, event.event_id, event.timestamp, verdict, None)
        return True

    def _weigh(self, series: _Series, sighting: Sighting) -> None:
        condition = series.rule.condition
        assert condition.windowed
        verdict = condition.judge(sighting, series.group)
        selection = condition.selection(sighting, series.group) if verdict.fires else None
        self._conclude(series, sighting.at, sighting.event_id, moment(sighting.at), verdict, selection)

    def _conclude(
        self,
        series: _Series,
        at: int,
        event_id: str,
        occurred_at: datetime,
        verdict: Verdict,
        selection: Selection | None,
    ) -> None:
        if verdict.fires:
            firing = Firing(series.rule, series.group, series.group_key, event_id, occurred_at, verdict, selection)
            self.found[series.rule.rule_id, series.group_key, event_id] = (at, series, firing)

    def _series(self, rule: Rule, event: Event) -> _Series:
        values = rule.condition.scope.values(event)
        # Equal values may look different (1 and 1.0): then one group has two series, which changes nothing.
        known = rule.rule_id, repr(values)
        if series := self.series.get(known):
            return series
        group = rule.condition.scope.group(values)
        group_key = canonical(group)
        self.series[known] = series = _Series(rule, group, group_key, digest(group_key))
        return series

    def _fault(self, rule: Rule, error: Exception) -> None:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        self.faults[rule.rule_id] = Fault(rule, reason[:LONGEST_REASON])

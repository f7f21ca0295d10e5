"""Series: the events for which one rule fires in one group."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from rules.event import Event, moment
from rules.rule import Rule
from rules.verdict import Selection, Verdict
from rules.windows.queries import CooldownClaim, WindowResult


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


class _Trigger(NamedTuple):
    """A verdict that fires for one or more events, the (time, id) of which are sorted. A cooldown starts at the time.

    `occurred_at` is the timestamp of the event, or None if the timestamp is the time at which a cooldown starts.
    """

    events: list[tuple[int, str]]
    verdict: Verdict
    occurred_at: datetime | None = None


@dataclass(slots=True)
class Series:
    """The triggers of one rule and group. `suffix` is the text for the group at the end of a verdict's reason."""

    rule: Rule
    group: dict[str, Any]
    group_key: str
    digest: str
    suffix: str
    triggers: list[_Trigger] = field(default_factory=list)

    def evaluate_event(self, event: Event, at: int, received: int) -> None:
        condition = self.rule.condition
        assert not condition.windowed
        # If the timestamp is outside the allowed lateness, the cooldown starts at the time of arrival: an event of the
        # year 9999 would otherwise suppress alerts in that year instead of now.
        start = at if self.rule.is_within_lateness(received - at) else received
        self._conclude(_Trigger([(start, event.event_id)], condition.evaluate(event, self.suffix), event.timestamp))

    def evaluate_result(self, result: WindowResult) -> None:
        condition = self.rule.condition
        assert condition.windowed
        self._conclude(_Trigger(result.events, condition.evaluate(result, self.suffix)))

    def _conclude(self, trigger: _Trigger) -> None:
        if trigger.verdict.fires:
            self.triggers.append(trigger)

    def claim(self) -> CooldownClaim:
        return self.rule.cooldown_claim(self.digest, self._events())

    def _events(self) -> list[tuple[int, str]]:
        """Return the (time, id) of all events that trigger, sorted."""
        if len(self.triggers) == 1:
            return self.triggers[0].events
        times = {event_id: at for trigger in self.triggers for at, event_id in trigger.events}
        return sorted((at, event_id) for event_id, at in times.items())

    def firings(self, wins: Sequence[int] | None) -> list[Firing]:
        """Return a firing for each trigger that no cooldown suppresses.

        `wins` has the indexes of the events of `claim` that may start a cooldown; None means all events.
        """
        events = self._events()
        winners = events if wins is None else [events[index] for index in wins]
        triggers = {event_id: trigger for trigger in self.triggers for _, event_id in trigger.events}
        return [self._firing(at, event_id, triggers[event_id]) for at, event_id in winners]

    def _firing(self, at: int, event_id: str, trigger: _Trigger) -> Firing:
        rule, condition = self.rule, self.rule.condition
        return Firing(
            rule,
            self.group,
            self.group_key,
            event_id,
            trigger.occurred_at or moment(at),
            trigger.verdict,
            condition.selection(at, self.group) if condition.windowed else None,
            rule.cooldown_claim(self.digest, [(at, event_id)]),
        )

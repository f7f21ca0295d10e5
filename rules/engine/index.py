"""Which rules an event index_keys, at a cost that grows with these and not with all rules."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rules.event import Event
from rules.rule import Rule
from rules.scope import Check


@dataclass(slots=True)
class _IndexEntry:
    """The rules for one event type and source; those with a further filter by the values that its path may have."""

    rules: list[Rule] = field(default_factory=list)
    filtered: dict[str, tuple[Check, dict[Any, list[Rule]]]] = field(default_factory=dict)

    def put(self, rule: Rule) -> None:
        checks = rule.condition.scope.checks
        if not checks:
            self.rules.append(rule)
            return
        _, by_value = self.filtered.setdefault(checks[0].path, (checks[0], {}))
        for value in checks[0].allowed:
            by_value.setdefault(value, []).append(rule)


class RuleSet:
    """Rules, indexed by the event types and sources that they are about, and by the first of their other filters."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._shelves: defaultdict[tuple[str | None, str | None], _IndexEntry] = defaultdict(_IndexEntry)
        for rule in rules:
            for concern in rule.condition.scope.index_keys:
                self._shelves[concern].put(rule)

    def candidates(self, event: Event) -> list[Rule]:
        """The rules that may be about the event; whether all their filters fit, their scope says."""
        kind, source = event.event_type, event.source
        found: list[Rule] = []
        for concern in ((kind, source), (kind, None), (None, source), (None, None)):
            if shelf := self._shelves.get(concern):
                found += shelf.rules
                for check, by_value in shelf.filtered.values():
                    found += by_value.get(check.value(event), ())
        return found

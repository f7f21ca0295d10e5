"""Index of rules by event type or source, and by one further filter.

The cost of a look-up depends on the number of rules that apply to the event, not on the number of all rules.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rules.event import Event
from rules.rule import Rule
from rules.scope import FieldFilter

ANY_EVENT = (None, None)


@dataclass(slots=True)
class _IndexEntry:
    """The rules of one index key. `filtered`: rules with an `index_filter`, by path and value of the filter."""

    rules: list[Rule] = field(default_factory=list)
    filtered: dict[str, tuple[FieldFilter, dict[Any, list[Rule]]]] = field(default_factory=dict)

    def add(self, rule: Rule) -> int:
        """Add a rule; return the number of new index entries."""
        index_filter = rule.condition.scope.index_filter
        if index_filter is None:
            self.rules.append(rule)
            return 1
        _, by_value = self.filtered.setdefault(index_filter.path, (index_filter, {}))
        for value in index_filter.allowed:
            by_value.setdefault(value, []).append(rule)
        return len(index_filter.allowed)


class RuleSet:
    """Index of the active rules. `size` is the number of index entries, at most 10,000 for each rule."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.size = 0
        self._entries: defaultdict[tuple[str | None, str | None], _IndexEntry] = defaultdict(_IndexEntry)
        for rule in rules:
            for key in rule.condition.scope.index_keys:
                self.size += self._entries[key].add(rule)

    def candidates(self, event: Event) -> list[Rule]:
        """Return the rules that may apply to the event; the caller must check them with `Scope.matches`."""
        found: list[Rule] = []
        for key in (("event_type", event.event_type), ("source", event.source), ANY_EVENT):
            if entry := self._entries.get(key):
                found += entry.rules
                for index_filter, by_value in entry.filtered.values():
                    found += by_value.get(index_filter.value(event), ())
        return found

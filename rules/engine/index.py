"""Index of the scopes of rules by event type or source, and by one further filter.

The cost of a look-up depends on the number of scopes that apply to the event, not on the number of all rules.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rules.engine.scope_rules import ScopeRules, by_scope
from rules.event import Event
from rules.rule import Rule
from rules.scope import FieldFilter

ANY_EVENT = (None, None)


@dataclass(slots=True)
class _IndexEntry:
    """The rules of one index key. `filtered`: scopes with an `index_filter`, by path and value of the filter."""

    unfiltered: list[ScopeRules] = field(default_factory=list)
    filtered: dict[str, tuple[FieldFilter, dict[Any, list[ScopeRules]]]] = field(default_factory=dict)

    def add(self, rules: ScopeRules) -> int:
        """Add the rules of a scope; return the number of new index entries."""
        index_filter = rules.scope.index_filter
        if index_filter is None:
            self.unfiltered.append(rules)
            return 1
        _, by_value = self.filtered.setdefault(index_filter.path, (index_filter, {}))
        for value in index_filter.allowed:
            by_value.setdefault(value, []).append(rules)
        return len(index_filter.allowed)


class RuleSet:
    """Index of the active rules. `size` is the number of index entries, at most 10,000 for each scope."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.size = 0
        self._entries: defaultdict[tuple[str | None, str | None], _IndexEntry] = defaultdict(_IndexEntry)
        for scope_rules in by_scope(rules):
            for key in scope_rules.scope.index_keys:
                self.size += self._entries[key].add(scope_rules)

    def candidates(self, event: Event) -> list[ScopeRules]:
        """Return the rules that may apply to the event; the caller must check their scope with `Scope.matches`."""
        found: list[ScopeRules] = []
        for key in (("event_type", event.event_type), ("source", event.source), ANY_EVENT):
            if entry := self._entries.get(key):
                found += entry.unfiltered
                for index_filter, by_value in entry.filtered.values():
                    found += by_value.get(index_filter.value(event), ())
        return found

"""Which rules an event concerns, at a cost that grows with these and not with all rules."""

from collections import defaultdict
from collections.abc import Iterable

from rules.event import Event
from rules.rule import Rule


class RuleSet:
    """Rules, indexed by the event types and sources that they are about."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._index: defaultdict[tuple[str | None, str | None], list[Rule]] = defaultdict(list)
        for rule in rules:
            for concern in rule.condition.scope.concerns:
                self._index[concern].append(rule)

    def concerning(self, event: Event) -> list[Rule]:
        """The rules for the event's type and source; whether its payload and metadata fit too, their scope says."""
        kind, source = event.event_type, event.source
        found: list[Rule] = []
        for concern in ((kind, source), (kind, None), (None, source), (None, None)):
            if rules := self._index.get(concern):
                found += rules
        return found

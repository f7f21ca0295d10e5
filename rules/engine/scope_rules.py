"""Rules with equal scopes, which are evaluated together: each event is added once for all of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from rules.rule import Rule
from rules.scope import Getter, Scope
from rules.windows.queries import WindowQuery, merge

Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class RuleWindow:
    """The windows of rules with one window key, a window for each group. `rules`: the rules of each span of `query`."""

    key: str
    query: WindowQuery
    rules: list[list[Rule]]

    @classmethod
    def of(cls, key: str, rules: Sequence[Rule]) -> Self:
        queries: Any = [_query(rule) for rule in rules]
        if not queries[0].shared_as:
            return cls(key, queries[0], [list(rules)])
        query: Any = merge(queries)
        by_span = partition(zip(queries, rules, strict=True), lambda each: each[0].spans[0])
        return cls(key, query, [[rule for _, rule in by_span[span]] for span in query.spans])


@dataclass(frozen=True, slots=True)
class WindowSet:
    """Windows with the same members: their rules accept the same events and give them the same values."""

    rules: list[Rule]
    value_of: Getter | None
    windows: list[RuleWindow]

    @classmethod
    def of(cls, value_of: Getter | None, rules: list[Rule]) -> Self:
        by_key = partition(rules, lambda rule: rule.window_key)
        return cls(rules, value_of, [RuleWindow.of(key, each) for key, each in by_key.items()])

    def is_within_lateness(self, age: int) -> bool:
        return self.rules[0].is_within_lateness(age)


@dataclass(frozen=True, slots=True, eq=False)
class ScopeRules:
    """The rules of one scope: rules with stateless conditions, and the windows of the others."""

    scope: Scope
    rules: list[Rule]
    stateless: list[Rule]
    window_sets: list[WindowSet]

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> Self:
        """Return the rules, which must have equal scopes."""
        windowed = [rule for rule in rules if rule.condition.windowed]
        window_sets = [WindowSet.of(value_of, each) for (_, value_of), each in partition(windowed, _members).items()]
        stateless = [rule for rule in rules if not rule.condition.windowed]
        return cls(rules[0].condition.scope, list(rules), stateless, window_sets)


def by_scope(rules: Iterable[Rule]) -> list[ScopeRules]:
    """Return the rules, grouped by their scopes."""
    return [ScopeRules.of(each) for each in partition(rules, lambda rule: rule.condition.scope.key).values()]


def partition(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Return the items by their key, in order of the first item of each key."""
    parts: dict[Key, list[Item]] = {}
    for item in items:
        parts.setdefault(key(item), []).append(item)
    return parts


def _query(rule: Rule) -> WindowQuery:
    assert rule.condition.windowed
    return rule.condition.query


def _members(rule: Rule) -> tuple[int, Getter | None]:
    """Return what determines the members of the rule's windows: equal results for rules with the same members."""
    assert rule.condition.windowed
    return rule.allowed_lateness_seconds, rule.condition.value_of

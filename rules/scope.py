"""Which events a rule is about, and how it groups them, by paths into the event."""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Self

from rules.event import Event

PATH = re.compile(r"event_type|source|(payload|metadata)(\.[^.]+)+")
SCALARS = (str, int, float, bool, type(None))
WHOLE = 2**53  # from here on not every whole number is a double

Getter = Callable[[Event], Any]


@dataclass(frozen=True, slots=True)
class Check:
    """A filter: what a path's value has to be one of. Values are stand-ins that are equal where JSON is."""

    path: str
    get: Getter
    allowed: frozenset[Any]

    def value(self, event: Event) -> Any:
        return _comparable(self.get(event))


@dataclass(frozen=True, slots=True)
class Scope:
    """The events whose value at every path of `filters` is one of those listed, grouped by the values at `group_by`.

    Values compare as in JSON: true is not 1, "5" is not 5, but 1 is 1.0; what is missing is null.
    """

    filters: Mapping[str, Sequence[Any]]
    group_by: tuple[str, ...]
    #: Pairs of event type and source for an index; None stands for any.
    index_keys: tuple[tuple[str | None, str | None], ...] = field(init=False, repr=False)
    #: The filters by payload and metadata.
    checks: tuple[Check, ...] = field(init=False, repr=False, compare=False)
    _group: tuple[Getter, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        either: Sequence[None] = (None,)
        pairs = itertools.product(self.filters.get("event_type", either), self.filters.get("source", either))
        checks = (
            Check(path, getter(path), frozenset(map(_comparable, values)))
            for path, values in self.filters.items()
            if path not in ("event_type", "source")
        )
        object.__setattr__(self, "index_keys", tuple(dict.fromkeys(pairs)))
        object.__setattr__(self, "checks", tuple(checks))
        object.__setattr__(self, "_group", tuple(map(getter, self.group_by)))

    @classmethod
    def of(cls, filters: Mapping[str, Any], group_by: Iterable[str]) -> Self:
        """The scope as it is written in a condition, where a filter may be one value."""
        return cls({path: _listed(wanted) for path, wanted in filters.items()}, tuple(group_by))

    def matches(self, event: Event) -> bool:
        """Whether an event that the index found passes the filters by payload and metadata too."""
        return all(check.value(event) in check.allowed for check in self.checks)

    def values(self, event: Event) -> tuple[Any, ...]:
        """The event's values at the paths of `group_by`, with 1 for 1.0, so that equal groups look the same."""
        return tuple([_normal(get(event)) for get in self._group])

    def group(self, values: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self.group_by, values, strict=True))

    def equal(self, group: Mapping[str, Any]) -> dict[str, list[Any]]:
        """What the events of one group have in common: the values they may have, by path."""
        return {path: list(values) for path, values in self.filters.items()} | {
            path: [value] for path, value in group.items()
        }


def getter(path: str) -> Getter:
    """A function that reads one path of an event; None: it is missing or null."""
    column, *keys = path.split(".")
    if not keys:
        return attrgetter(column)
    read = attrgetter(column)
    return lambda event: reach(read(event), keys)


def reach(value: Any, keys: Sequence[str]) -> Any:
    """Follow the keys through nested objects; None: there is nothing."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


#: The same JSON text for equal values: compact, keys sorted.
canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _listed(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def _comparable(value: Any) -> Any:
    """A stand-in that is equal where JSON is: Python takes true for 1. Objects and arrays equal no filter."""
    return (isinstance(value, bool), value) if isinstance(value, SCALARS) else None


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE:
        return int(value)
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    return value

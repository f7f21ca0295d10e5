"""Scope of a rule: the events that it applies to, and their groups, defined by paths into the events."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Self

from rules.event import Event

PATH = re.compile(r"event_type|source|(payload|metadata)(\.[^.]+)+")
SCALARS = (str, int, float, bool, type(None))
#: Paths that are never missing or null. The index uses the first of these paths for which a rule has a filter.
INDEX_COLUMNS = ("event_type", "source")
#: Maximum number of index entries of one rule. With more combinations of values, the index uses only the first filter.
MAX_INDEX_ENTRIES = 10_000
MAX_EXACT_INTEGER = 2**53  # doubles cannot represent every integer above this one

Getter = Callable[[Event], Any]


@dataclass(frozen=True, slots=True)
class FieldFilter:
    """Filter by the value at a path. `allowed` has the matching values, in the form that `value` returns."""

    path: str
    get: Getter
    allowed: frozenset[Any]

    @classmethod
    def of(cls, path: str, values: Iterable[Any]) -> Self:
        return cls(path, getter(path), frozenset(map(_comparable, values)))

    def value(self, event: Event) -> Any:
        return _comparable(self.get(event))


@dataclass(frozen=True, slots=True)
class Scope:
    """The events that have one of the listed values at each path of `filters`, grouped by their values at `group_by`.

    Values compare as in JSON: true is not 1 and "5" is not 5, but 1 equals 1.0. A missing path has the value null.
    """

    filters: Mapping[str, Sequence[Any]]
    group_by: tuple[str, ...]
    #: Canonical text of the filters and paths: equal for scopes with the same events and groups.
    key: str = field(init=False, repr=False, compare=False)
    #: Keys of the rule in the index: (column, value) for each value of the filter by an index column, or (None, None)
    #: without such a filter.
    index_keys: tuple[tuple[str | None, str | None], ...] = field(init=False, repr=False)
    #: Second filter that the index uses, if any.
    index_filter: FieldFilter | None = field(init=False, repr=False, compare=False)
    #: All filters except the filter in `index_keys`.
    field_filters: tuple[FieldFilter, ...] = field(init=False, repr=False, compare=False)
    _group: tuple[Getter, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        column = next((column for column in INDEX_COLUMNS if column in self.filters), None)
        values = dict.fromkeys(self.filters[column] if column else (None,))
        others = sorted((path for path in self.filters if path != column), key=lambda path: path not in INDEX_COLUMNS)
        filters = tuple(FieldFilter.of(path, self.filters[path]) for path in others)
        narrows = filters and len(values) * len(filters[0].allowed) <= MAX_INDEX_ENTRIES
        form = [canonical_filters(self.filters), canonical_paths(self.group_by)]
        object.__setattr__(self, "key", canonical_json(form))
        object.__setattr__(self, "index_keys", tuple((column, value) for value in values))
        object.__setattr__(self, "index_filter", filters[0] if narrows else None)
        object.__setattr__(self, "field_filters", filters)
        object.__setattr__(self, "_group", tuple(map(getter, self.group_by)))

    @classmethod
    def of(cls, filters: Mapping[str, Any], group_by: Iterable[str]) -> Self:
        """Return the scope for the fields of a condition, where a filter is one value or a list of values."""
        return cls({path: as_list(wanted) for path, wanted in filters.items()}, tuple(group_by))

    def matches(self, event: Event) -> bool:
        """Return whether the event passes `field_filters`; the index checks the filter in `index_keys`."""
        for each in self.field_filters:  # noqa: SIM110 - a generator would cost more than the comparison
            if each.value(event) not in each.allowed:
                return False
        return True

    def values(self, event: Event) -> list[Any]:
        """Return the normalized values at the paths of `group_by`, so that equal groups have equal text."""
        return [normalize(get(event)) for get in self._group]

    def group(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return the group with these values, as a mapping from the paths of `group_by`."""
        return dict(zip(self.group_by, values, strict=True))

    def equal(self, group: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return, by path, the values that the events of one group may have."""
        return {path: list(values) for path, values in self.filters.items()} | {
            path: [value] for path, value in group.items()
        }


def getter(path: str) -> Getter:
    """Return a function that returns the value at a path of an event, or None if the value is missing or null."""
    column, *keys = path.split(".")
    if not keys:
        return attrgetter(column)
    read = attrgetter(column)
    return lambda event: get_path(read(event), keys)


def get_path(value: Any, keys: Sequence[str]) -> Any:
    """Return the value at a path of keys through nested objects; None if the path does not exist."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


#: Encoder to compact JSON with sorted keys, so that equal normalized values have the same text.
canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def canonical_filters(filters: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return, for each path, the sorted JSON texts of the distinct values."""
    texts = {path: {canonical_json(normalize(each)) for each in as_list(wanted)} for path, wanted in filters.items()}
    return {path: sorted(values) for path, values in texts.items()}


def canonical_paths(paths: Iterable[str]) -> list[str]:
    """Return the paths of `group_by` sorted and without repetitions, which have no meaning."""
    return sorted(set(paths))


def as_list(wanted: Any) -> list[Any]:
    """Return the values of a filter, which is one value or a list of values."""
    return wanted if isinstance(wanted, list) else [wanted]


def normalize(value: Any) -> Any:
    """Return an equal JSON value in which floats such as 1.0 are integers."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT_INTEGER:
        return int(value)
    if isinstance(value, list):
        return [normalize(item) for item in value]
    if isinstance(value, dict):
        return {key: normalize(item) for key, item in value.items()}
    return value


def _comparable(value: Any) -> Any:
    """Return a key for comparing JSON values: unlike True and 1 in Python, true and 1 have different keys.

    Return None for an object or array, which equals no value of a filter.
    """
    return (isinstance(value, bool), value) if isinstance(value, SCALARS) else None

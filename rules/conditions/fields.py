"""Fields of rules and conditions. They do not convert between JSON types: "5" is not 5, and 1 is not true.

A field has a method `canonical` if different values can have the same meaning, see `ConditionSchema`.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate

from rules.scope import INDEX_COLUMNS, PATH, SCALARS, as_list, canonical_filters, canonical_paths

PATH_ERROR = "Must be event_type, source, payload.<path> or metadata.<path>."
FILTER_ERROR = "Must be a string, number, boolean or null, or a non-empty list of such values."
COLUMN_FILTER_ERROR = "Must be a non-empty string or a non-empty list of such strings."
#: Maximum number of events that a rule can count. A window keeps about four times as many events, so a higher maximum
#: could need too much memory in Redis.
MAX_COUNT = 10_000
#: Maximum number of values of one filter, because the index of rules has an entry for each value.
MAX_VALUES = 1_000
TOO_MANY_VALUES_ERROR = f"Must have at most {MAX_VALUES} values."


class BoundedInteger(fields.Integer):
    """Field for an integer from `minimum` to `maximum`, both included; 5.0 is not an integer."""

    def __init__(self, minimum: int, maximum: int, **options: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(minimum, maximum), **options)


class StrictNumber(fields.Float):
    """Field for a number; an integer is not converted to a float."""

    def _validated(self, value: Any) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        super()._validated(value)
        return value


class StrictBoolean(fields.Boolean):
    """Field for true or false; "true" and 1 are invalid."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class EventPath(fields.String):
    """Field for the path of a value in an event."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        path = super()._deserialize(value, attr, data, **kwargs)
        if not PATH.fullmatch(path):
            raise ValidationError(PATH_ERROR)
        return path


class GroupBy(fields.List[str]):
    """Field for the paths whose values form the group of an event. Order and repetition of paths have no meaning."""

    def __init__(self) -> None:
        super().__init__(EventPath(), load_default=list)

    canonical = staticmethod(canonical_paths)


class Filters(fields.Dict):
    """Field for filters: a mapping from each path to a matching value or a list of matching values."""

    def __init__(self) -> None:
        super().__init__(load_default=dict)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[str, Any]:
        filters: dict[str, Any] = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call] # marshmallow's own
        errors = {path: [error] for path, wanted in filters.items() if (error := _filter_error(path, wanted))}
        if errors:
            raise ValidationError(errors)
        return filters

    canonical = staticmethod(canonical_filters)


def _filter_error(path: Any, wanted: Any) -> str | None:
    if not isinstance(path, str) or not PATH.fullmatch(path):
        return PATH_ERROR
    values = as_list(wanted)
    if len(values) > MAX_VALUES:
        return TOO_MANY_VALUES_ERROR
    if path in INDEX_COLUMNS:
        # The event type and the source of every event are non-empty strings: other values would match no event.
        valid = all(isinstance(value, str) and value for value in values)
        return None if values and valid else COLUMN_FILTER_ERROR
    return None if values and all(isinstance(value, SCALARS) for value in values) else FILTER_ERROR

"""Fields of rules and conditions, as strict as JSON: "5" is not 5 and 1 is not true.

A field whose value has several spellings of the same meaning has a method `canonical`, see `ConditionSchema`.
"""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate

from rules.scope import INDEX_COLUMNS, PATH, SCALARS, as_list, canonical_json, normalize

PATH_ERROR = "Must be event_type, source, payload.<path> or metadata.<path>."
FILTER_ERROR = "Must be a string, number, boolean or null, or a list of them."
COLUMN_FILTER_ERROR = "Must be a non-empty string or a list of them."
#: A window keeps up to four times as many events as its rule counts: a higher limit would need too much of Redis.
MAX_COUNT = 10_000
#: Values of one filter: the index of rules has an entry for each.
MAX_VALUES = 1_000
TOO_MANY_VALUES_ERROR = f"Must have at most {MAX_VALUES} values."


class BoundedInteger(fields.Integer):
    """An integer between two bounds, both included; 5.0 is not one."""

    def __init__(self, least: int, most: int, **options: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(least, most), **options)


class StrictNumber(fields.Float):
    """An integer or a float, of the type that was sent."""

    def _validated(self, value: Any) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        super()._validated(value)
        return value


class StrictBoolean(fields.Boolean):
    """true or false."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class EventPath(fields.String):
    """A path into an event."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        path = super()._deserialize(value, attr, data, **kwargs)
        if not PATH.fullmatch(path):
            raise ValidationError(PATH_ERROR)
        return path


class GroupBy(fields.List[str]):
    """Paths whose values form the group of an event. Their order and repetitions have no meaning."""

    def __init__(self) -> None:
        super().__init__(EventPath(), load_default=list)

    @staticmethod
    def canonical(value: list[str]) -> list[str]:
        return sorted(set(value))


class Filters(fields.Dict):
    """Paths, each with the value that an event must have there, or with a list of such values."""

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

    @staticmethod
    def canonical(value: dict[str, Any]) -> dict[str, Any]:
        """Return each filter as a sorted list of different values."""
        texts = {path: {canonical_json(normalize(each)) for each in as_list(wanted)} for path, wanted in value.items()}
        return {path: sorted(wanted) for path, wanted in texts.items()}


def _filter_error(path: Any, wanted: Any) -> str | None:
    if not isinstance(path, str) or not PATH.fullmatch(path):
        return PATH_ERROR
    values = as_list(wanted)
    if len(values) > MAX_VALUES:
        return TOO_MANY_VALUES_ERROR
    if path in INDEX_COLUMNS:
        # Every event has an event type and a source, and neither is empty: another value could match no event.
        valid = all(isinstance(value, str) and value for value in values)
        return None if values and valid else COLUMN_FILTER_ERROR
    return None if values and all(isinstance(value, SCALARS) for value in values) else FILTER_ERROR

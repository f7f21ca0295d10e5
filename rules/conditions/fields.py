"""Fields of rules and conditions, as strict as JSON: no "5" for 5, no 1 for true."""

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate

from rules.scope import PATH, SCALARS

A_PATH = "Must be event_type, source, payload.<path> or metadata.<path>."
A_FILTER = "Must be a string, number, boolean or null, or a list of them."
#: A window keeps a few times as many members as its rule counts: more would cost too much of Redis.
MAX_COUNT = 10_000


class Whole(fields.Integer):
    """A whole number within bounds, written as one."""

    def __init__(self, least: int, most: int, **options: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(least, most), **options)


class Number(fields.Float):
    """A number, whole or not, kept as it is written."""

    def _validated(self, value: Any) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        super()._validated(value)
        return value


class Flag(fields.Boolean):
    """true or false."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class Path(fields.String):
    """Where in an event to look."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        path = super()._deserialize(value, attr, data, **kwargs)
        if not PATH.fullmatch(path):
            raise ValidationError(A_PATH)
        return path


class Filters(fields.Dict):
    """Paths, each with the value that an event must have there, or a list of such values."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[str, Any]:
        filters: dict[str, Any] = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call] # marshmallow's own
        problems = {path: [problem] for path, wanted in filters.items() if (problem := _problem(path, wanted))}
        if problems:
            raise ValidationError(problems)
        return filters


def _problem(path: Any, wanted: Any) -> str | None:
    if not isinstance(path, str) or not PATH.fullmatch(path):
        return A_PATH
    values = wanted if isinstance(wanted, list) else [wanted]
    if not values or not all(isinstance(value, SCALARS) for value in values):
        return A_FILTER
    return None

"""Schema of an event: the validation of its fields, and the messages for invalid values."""

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

import msgspec
from marshmallow import RAISE, Schema, ValidationError, fields

MAX_DEPTH = 32
MAX_NAME_CHARACTERS = 255
#: Maximum number of errors in a response for one JSON object.
MAX_ISSUES = 100
SURROGATE = re.compile(r"[\ud800-\udfff]")
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]


def to_utc(time: datetime) -> datetime:
    """Return the time in UTC. Raises `ValueError` if the year is not between 1970 and 9999."""
    try:
        in_utc = time.astimezone(UTC)
    except OverflowError:
        in_utc = None
    if in_utc is None or in_utc < EARLIEST:
        raise ValueError("Must be within the years 1970 to 9999, in UTC.")
    return in_utc


def json_issues(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path, message) for each part of a JSON value that `jsonb` cannot store or that is nested too deeply."""
    if isinstance(value, dict | list):
        if len(path) >= MAX_DEPTH:
            yield path, f"Must not be nested deeper than {MAX_DEPTH} levels."
            return
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            inner_path = (*path, str(key))
            if isinstance(key, str):
                yield from ((inner_path, issue) for issue in text_issues(key))
            yield from json_issues(inner, inner_path)
    elif isinstance(value, str):
        yield from ((path, issue) for issue in text_issues(value))
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "Must be a finite number of at most 4,300 digits."


def text_issues(text: str) -> Iterator[str]:
    """Yield a message for each reason why PostgreSQL cannot store a string."""
    if "\x00" in text:
        yield "Must not contain NUL."
    if SURROGATE.search(text):
        yield "Must not contain a lone surrogate."


class NameField(fields.String):
    """Field for a string of 1 to 255 characters."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        try:
            name = msgspec.convert(value, Name)
        except msgspec.ValidationError as error:
            raise ValidationError(f"Must be a string of 1 to {MAX_NAME_CHARACTERS} characters.") from error
        if issues := list(text_issues(name)):
            raise ValidationError(issues)
        return name


class IdField(fields.UUID):
    """Field for a UUID."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> UUID:
        try:
            return msgspec.convert(value, UUID)
        except msgspec.ValidationError as error:
            raise ValidationError("Must be a UUID.") from error


class TimestampField(fields.AwareDateTime):
    """Field for an ISO 8601 time with a time zone; the value is converted to UTC."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> datetime:
        try:
            return to_utc(msgspec.convert(value, Timestamp))
        except msgspec.ValidationError as error:
            raise ValidationError("Must be an ISO 8601 time with a time zone, such as 2026-01-31T12:00:00Z.") from error
        except ValueError as error:
            raise ValidationError(str(error)) from error


class ObjectField(fields.Dict):
    """Field for a JSON object that PostgreSQL can store."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError("Must be an object.")
        messages: dict[str, Any] = {}
        for path, issue in islice(json_issues(value), MAX_ISSUES):
            messages.setdefault(".".join(path) or "_schema", []).append(issue)
        if messages:
            raise ValidationError(messages)
        return value


class EventSchema(Schema):
    """Schema of one event in a request body."""

    class Meta:
        unknown = RAISE

    error_messages = {"type": "Must be an object."}

    event_id = IdField(
        allow_none=True,
        load_default=None,
        metadata={
            "description": "id, generated if absent; a second event with the same id is accepted, but not stored"
        },
    )
    event_type = NameField(required=True)
    source = NameField(required=True)
    timestamp = TimestampField(required=True)
    payload = ObjectField(load_default=dict)
    metadata = ObjectField(load_default=dict)

"""The contract of an event: the one place that says what is valid, and the words for what is not."""

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
SURROGATE = re.compile(r"[\ud800-\udfff]")
MAX_FLAWS = 100  # of one object that are named
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]


def instant(moment: datetime) -> datetime:
    """The moment in UTC. Raises `ValueError` outside the years 1970 to 9999."""
    try:
        in_utc = moment.astimezone(UTC)
    except OverflowError:
        in_utc = None
    if in_utc is None or in_utc < EARLIEST:
        raise ValueError("Must be within the years 1970 to 9999, in UTC.")
    return in_utc


def flaws(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where a JSON value is more than we can keep, and why: PostgreSQL's `jsonb` refuses NUL and lone surrogates."""
    if isinstance(value, dict | list):
        if len(path) >= MAX_DEPTH:
            yield path, f"Must not be nested deeper than {MAX_DEPTH} levels."
            return
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            step = (*path, str(key))
            if isinstance(key, str):
                yield from ((step, flaw) for flaw in text_flaws(key))
            yield from flaws(inner, step)
    elif isinstance(value, str):
        yield from ((path, flaw) for flaw in text_flaws(value))
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, "Must be a finite number of at most 4,300 digits."


def too_deep(value: dict[str, Any] | list[Any], levels: int = MAX_DEPTH) -> bool:
    """Whether objects and arrays are nested more than `levels` times: what `flaws` says of depth, faster."""
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(too_deep(each, levels - 1) for each in inner if isinstance(each, dict | list))


def text_flaws(text: str) -> Iterator[str]:
    """Why PostgreSQL could not keep a text."""
    if "\x00" in text:
        yield "Must not contain NUL."
    if SURROGATE.search(text):
        yield "Must not contain a lone surrogate."


class NameField(fields.String):
    """A text of 1 to 255 characters."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        try:
            name = msgspec.convert(value, Name)
        except msgspec.ValidationError as error:
            raise ValidationError(f"Must be a string of 1 to {MAX_NAME_CHARACTERS} characters.") from error
        if found := list(text_flaws(name)):
            raise ValidationError(found)
        return name


class IdField(fields.UUID):
    """A UUID."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> UUID:
        try:
            return msgspec.convert(value, UUID)
        except msgspec.ValidationError as error:
            raise ValidationError("Must be a UUID.") from error


class TimestampField(fields.AwareDateTime):
    """An ISO-8601 time with its zone; becomes UTC."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> datetime:
        try:
            return instant(msgspec.convert(value, Moment))
        except msgspec.ValidationError as error:
            raise ValidationError("Must be an ISO-8601 time with a zone, as 2026-01-31T12:00:00Z.") from error
        except ValueError as error:
            raise ValidationError(str(error)) from error


class ObjectField(fields.Dict):
    """A JSON object that can be stored."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError("Must be an object.")
        messages: dict[str, Any] = {}
        for path, flaw in islice(flaws(value), MAX_FLAWS):
            messages.setdefault(".".join(path) or "_schema", []).append(flaw)
        if messages:
            raise ValidationError(messages)
        return value


class EventSchema(Schema):
    """One event, as clients send it."""

    class Meta:
        unknown = RAISE

    error_messages = {"type": "Must be an object."}

    event_id = IdField(
        allow_none=True,
        load_default=None,
        metadata={"description": "minted when absent; an event that repeats an id is accepted and stored once"},
    )
    event_type = NameField(required=True)
    source = NameField(required=True)
    timestamp = TimestampField(required=True)
    payload = ObjectField(load_default=dict)
    metadata = ObjectField(load_default=dict)

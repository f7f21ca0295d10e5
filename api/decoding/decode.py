"""Events from JSON at speed: a typed decode, and the schema only to explain what that refused.

Both accept the same, and a property test holds them to it. The schema is the contract.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID, uuid5

import msgspec
from uuid_utils.compat import uuid7

from api import problems
from api.decoding import lenient_json
from api.decoding.event_schema import MAX_DEPTH, EventSchema, Moment, Name, flaws, instant, too_deep
from eventpulse.settings import Settings

#: Ids derived from an Idempotency-Key are UUIDv5 in this namespace. A retried request must find it unchanged.
IDEMPOTENCY = UUID("4a3f8f0e-64b1-4d0b-9f0e-2f6f4b1f1c55")

#: What we add to an event ourselves, at most: its id, empty objects and the time of receipt.
OWN_BYTES = 128


class Event(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An event as clients send it, its fields in the order in which they travel."""

    event_id: UUID | None = None
    event_type: Name
    source: Name
    timestamp: Moment
    payload: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Form:
    """How a body holds its events: read fast, or read for explaining, as JSON values that may be anything."""

    read: Callable[[bytes], list[Event]]
    parse: Callable[[bytes], Iterable[Any]]
    numbered: bool = True


@dataclass(frozen=True, slots=True)
class Accepted:
    """Valid events: their ids, and each as the JSON in which it travels. Both in the order of the body."""

    ids: list[UUID]
    encoded: list[bytes]


_one = msgspec.json.Decoder(Event)
_many = msgspec.json.Decoder(list[Event])
_envelope = msgspec.json.Decoder(Envelope)
_encode = msgspec.json.Encoder().encode
_schema = EventSchema()


def _read_many(body: bytes) -> list[Event]:
    return _envelope.decode(body).events if body.lstrip()[:1] == b"{" else _many.decode(body)


def _read_lines(body: bytes) -> list[Event]:
    return [_one.decode(line) for line in body.split(b"\n") if line.strip()]


ONE = Form(lambda body: [_one.decode(body)], lenient_json.one, numbered=False)
MANY = Form(_read_many, lenient_json.many)
LINES = Form(_read_lines, lenient_json.lines)


def decode(body: bytes, form: Form, limits: Settings, key: str | None = None) -> Accepted:
    """The events of a body, checked, with ids and times in UTC.

    An event without id gets a UUIDv7, or with an idempotency `key` a UUIDv5 of the key and its index.
    Raises `problems.Problem`: 400 with every error, or 413 for what is beyond `limits`.
    """
    try:
        events = form.read(body)
        _count(events, limits)
        accepted = seal(events, key)
    except (ValueError, RecursionError) as refusal:
        values = list(islice(form.parse(body), limits.max_batch_events + 1))
        _count(values, limits)
        raise _explain(values, form, refusal) from None
    oversized = [index for index, text in enumerate(accepted.encoded) if len(text) > limits.max_event_bytes + OWN_BYTES]
    if oversized:
        raise _too_large(oversized, form, limits)
    return accepted


def seal(events: list[Event], key: str | None) -> Accepted:
    """Complete events, and encode them. Raises `ValueError` for what the types let through and the schema refuses."""
    received = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    tail = f',"received_at":"{received}Z"}}'.encode()
    ids: list[UUID] = []
    encoded: list[bytes] = []
    for index, event in enumerate(events):
        event.timestamp = instant(event.timestamp)
        if event.event_id is None:
            event.event_id = uuid7() if key is None else uuid5(IDEMPOTENCY, f"{index}:{key}")
        text = _encode(event)
        # Few brackets cannot nest deeply; those of the event and of its other object do not count.
        if text.count(b"{") + text.count(b"[") > MAX_DEPTH + 2 and (
            too_deep(event.payload) or too_deep(event.metadata)
        ):
            raise ValueError("an object is nested too deeply")
        if b"\\u0000" in text and _has_flaws(event):
            raise ValueError("a text contains NUL")
        ids.append(event.event_id)
        encoded.append(text[:-1] + tail)
    return Accepted(ids, encoded)


def _has_flaws(event: Event) -> bool:
    return any(any(flaws(part)) for part in (event.event_type, event.source, event.payload, event.metadata))


def _count(events: Sequence[Any], limits: Settings) -> None:
    if not events:
        raise problems.invalid([{"field": "events", "message": "Must hold at least one event."}], "Empty batch")
    if len(events) > limits.max_batch_events:
        message = f"Must hold at most {limits.max_batch_events} events."
        raise problems.too_large("Too many events", [{"field": "events", "message": message}])


def _too_large(oversized: list[int], form: Form, limits: Settings) -> problems.Problem:
    message = f"Must have at most {limits.max_event_bytes} bytes as compact JSON."
    errors = [_at(index, form, {"field": "event", "message": message}) for index in oversized]
    return problems.too_large("An event is too large", errors)


def _explain(values: list[Any], form: Form, refusal: Exception) -> problems.Problem:
    errors = list(islice(_errors(values, form), problems.MAX_ERRORS + 1))
    if not errors:
        # A field given twice: the schema sees only the last one. What was refused stays refused.
        errors = [{"field": "event", "message": str(refusal)}]
    return problems.invalid(errors, "Invalid event")


def _errors(values: list[Any], form: Form) -> Iterator[problems.Error]:
    for index, value in enumerate(values):
        if isinstance(value, lenient_json.Malformed):
            yield _at(index, form, {"field": "event", "message": value.reason})
            continue
        messages = _schema.validate(value)
        for error in problems.flatten(messages, root="event"):
            yield _at(index, form, error)


def _at(index: int, form: Form, error: problems.Error) -> problems.Error:
    return {"index": index, **error} if form.numbered else error

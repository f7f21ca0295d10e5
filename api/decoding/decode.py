"""Fast decoding of events with typed decoders. If a body is invalid, `EventSchema` finds the errors for the response.

`EventSchema` defines which events are valid. A property test checks that the decoders accept the same events.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from typing import Any
from uuid import UUID, uuid5

import msgspec
from uuid_utils.compat import uuid7

from api import problems
from api.decoding import lenient_json
from api.decoding.event_schema import (
    MAX_DEPTH,
    EventSchema,
    Name,
    Timestamp,
    is_nested_too_deeply,
    json_issues,
    to_utc,
)
from eventpulse.settings import Settings

#: Namespace of the UUIDv5 ids that are derived from an Idempotency-Key. Must not change: retries would get other ids,
#: and their events would be stored twice.
IDEMPOTENCY_NAMESPACE = UUID("4a3f8f0e-64b1-4d0b-9f0e-2f6f4b1f1c55")

#: Maximum number of bytes that the server adds to an event: the id, empty objects and `received_at`.
ADDED_BYTES = 128


class IncomingEvent(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Event in a request body. The fields are encoded for the queue in this order."""

    event_id: UUID | None = None
    event_type: Name
    source: Name
    timestamp: Timestamp
    payload: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """Batch in the form of an object with the field `events`."""

    events: list[IncomingEvent]


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """Format of a request body that contains events.

    decode: returns the events of a valid body. Raises `ValueError` or `RecursionError` if the body is invalid.
    parse: returns a JSON value or `Malformed` for each event of an invalid body, so that the response can list the
        errors. Raises `problems.Problem` if the body cannot be divided into events.
    is_batch: whether each error contains the index of its event.
    """

    decode: Callable[[bytes], list[IncomingEvent]]
    parse: Callable[[bytes], Iterable[Any]]
    is_batch: bool = True


@dataclass(frozen=True, slots=True)
class ValidEvents:
    """Valid events in the order of the body: their ids, and each event encoded for the queue."""

    ids: list[UUID]
    encoded: list[bytes]


_event_decoder = msgspec.json.Decoder(IncomingEvent)
_array_decoder = msgspec.json.Decoder(list[IncomingEvent])
_envelope_decoder = msgspec.json.Decoder(Envelope)
_encode = msgspec.json.Encoder().encode
_encode_canonical = msgspec.json.Encoder(order="deterministic").encode
_schema = EventSchema()


def _decode_batch(body: bytes) -> list[IncomingEvent]:
    return _envelope_decoder.decode(body).events if body.lstrip()[:1] == b"{" else _array_decoder.decode(body)


def _decode_lines(body: bytes) -> list[IncomingEvent]:
    return [_event_decoder.decode(line) for line in body.split(b"\n") if line.strip()]


SINGLE = BodyFormat(lambda body: [_event_decoder.decode(body)], lenient_json.parse_single, is_batch=False)
BATCH = BodyFormat(_decode_batch, lenient_json.parse_batch)
NDJSON = BodyFormat(_decode_lines, lenient_json.parse_lines)


def decode(body: bytes, body_format: BodyFormat, limits: Settings, idempotency_key: str | None = None) -> ValidEvents:
    """Return the validated events of a body, with ids and with timestamps in UTC.

    An event without an id gets a UUIDv7 or, with an `idempotency_key`, a derived id (see `derived_id`).
    Raises `problems.Problem`: 400 for an invalid body, 413 for too many events or an event that is too large.
    """
    try:
        events = body_format.decode(body)
        _check_count(events, limits)
        valid = finalize(events, idempotency_key)
    except (ValueError, RecursionError) as error:
        values = list(islice(body_format.parse(body), limits.max_batch_events + 1))
        _check_count(values, limits)
        raise _explain(values, body_format, error) from None
    max_bytes = limits.max_event_bytes + ADDED_BYTES
    oversized = [index for index, text in enumerate(valid.encoded) if len(text) > max_bytes]
    if oversized:
        raise _event_too_large(oversized, body_format, limits)
    return valid


def finalize(events: list[IncomingEvent], idempotency_key: str | None) -> ValidEvents:
    """Convert the timestamps to UTC, add missing ids, and return the events encoded for the queue.

    Raises `ValueError` for an event that is invalid although the decoders accept it: its nesting is too deep, a string
    contains NUL, or its year is not between 1970 and 9999.
    """
    suffix = b',"received_at":%b}' % _encode(datetime.now(UTC))
    ids: list[UUID] = []
    encoded: list[bytes] = []
    for index, event in enumerate(events):
        event.timestamp = to_utc(event.timestamp)
        if event.event_id is None:
            event.event_id = uuid7() if idempotency_key is None else derived_id(idempotency_key, index, event)
        text = _encode(event)
        # Counting opening brackets is faster than checking the objects. An object that is nested too deeply has more
        # than MAX_DEPTH brackets; the event and its other object have at least one bracket each.
        if text.count(b"{") + text.count(b"[") > MAX_DEPTH + 2 and (
            is_nested_too_deeply(event.payload) or is_nested_too_deeply(event.metadata)
        ):
            raise ValueError(f"Must not be nested deeper than {MAX_DEPTH} levels.")
        if b"\\u0000" in text and _has_issues(event):
            raise ValueError("Must not contain NUL.")
        ids.append(event.event_id)
        encoded.append(text[:-1] + suffix)
    return ValidEvents(ids, encoded)


def derived_id(idempotency_key: str, index: int, event: IncomingEvent) -> UUID:
    """Return a UUIDv5 of the key, the index in the body and a digest of the event.

    A repeated request gets the same ids. A different event with the same key gets another id, so that it is stored too.
    If requests are authenticated in the future, the UUID must also depend on the client.
    """
    # `event_id` is still None, so the digest depends only on the other fields.
    digest = blake2b(_encode_canonical(event), digest_size=16).hexdigest()
    return uuid5(IDEMPOTENCY_NAMESPACE, f"{index}:{idempotency_key}:{digest}")


def _has_issues(event: IncomingEvent) -> bool:
    parts = (event.event_type, event.source, event.payload, event.metadata)
    return any(any(json_issues(part)) for part in parts)


def _check_count(events: Sequence[Any], limits: Settings) -> None:
    if not events:
        raise problems.invalid([problems.field_error("events", "Must contain at least one event.")], "Empty batch")
    if len(events) > limits.max_batch_events:
        message = f"Must contain at most {limits.max_batch_events} events."
        raise problems.too_large("Too many events", [problems.field_error("events", message)])


def _event_too_large(oversized: list[int], body_format: BodyFormat, limits: Settings) -> problems.Problem:
    error = problems.field_error("event", f"Must have at most {limits.max_event_bytes} bytes as compact JSON.")
    return problems.too_large("Event too large", [_located(index, body_format, error) for index in oversized])


def _explain(values: list[Any], body_format: BodyFormat, rejection: Exception) -> problems.Problem:
    errors = list(islice(_errors(values, body_format), problems.MAX_ERRORS + 1))
    if not errors:
        # The schema finds no error if a field occurs twice, because the lenient parser keeps only the last value.
        errors = [problems.field_error("event", str(rejection))]
    return problems.invalid(errors, "Invalid event")


def _errors(values: list[Any], body_format: BodyFormat) -> Iterator[problems.Error]:
    for index, value in enumerate(values):
        if isinstance(value, lenient_json.Malformed):
            yield _located(index, body_format, problems.field_error("event", value.reason))
            continue
        for error in problems.flatten(_schema.validate(value), root="event"):
            yield _located(index, body_format, error)


def _located(index: int, body_format: BodyFormat, error: problems.Error) -> problems.Error:
    return {"index": index, **error} if body_format.is_batch else error

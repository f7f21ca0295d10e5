"""Fast decoding of events with typed decoders. If a body is invalid, `explain` finds the errors for the response.

`EventSchema` defines which events are valid. A property test checks that the decoders accept the same events.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from api import problems
from api.decoding.body_formats import BodyFormat, Text, decode_event
from api.decoding.explain import check_count, check_syntax, explain, located
from api.decoding.incoming import ADDED_BYTES, IncomingEvent, ValidEvents, finalize
from api.decoding.nodes import MAX_BODY_NODES, MAX_EVENT_NODES, count_nodes, has_too_many_nodes, too_many_nodes
from api.decoding.time_slice import LONG_COMPUTATION, TimeSlice
from eventpulse.settings import Settings

#: Maximum size, and number of opening brackets, of a body that is decoded in one call. The events of other bodies are
#: decoded one by one.
ONE_CALL_BYTES = 256 * 1024
ONE_CALL_BRACKETS = 25_000
#: Size of a body whose brackets are not counted, because a valid one has fewer than `ONE_CALL_BRACKETS`.
SMALL_BYTES = 64 * 1024


def decode(body: bytes, body_format: BodyFormat, limits: Settings, idempotency_key: str | None = None) -> ValidEvents:
    """Return the validated events of a body, with ids and with timestamps in UTC.

    An event without an id gets a UUIDv7 or, with an `idempotency_key`, a derived id (see `derived_id`).
    Raises `problems.Problem`: 400 for an invalid body, 413 for too many events, an event that is too large, or too many
    nodes.
    """
    if _is_small(body):
        return _decode_small(body, body_format, limits, idempotency_key)
    if count_nodes(body) > MAX_BODY_NODES:
        raise too_many_nodes()
    with LONG_COMPUTATION:
        return _decode_large(body, body_format, limits, idempotency_key)


def _is_small(body: bytes) -> bool:
    if len(body) <= SMALL_BYTES:
        return True
    return len(body) <= ONE_CALL_BYTES and body.count(b"[") + body.count(b"{") <= ONE_CALL_BRACKETS


def _decode_small(body: bytes, body_format: BodyFormat, limits: Settings, idempotency_key: str | None) -> ValidEvents:
    try:
        events = body_format.decode(body)
        check_count(events, limits)
        valid = finalize(events, idempotency_key)
    except (ValueError, RecursionError) as error:
        raise explain(body, body_format, limits, error) from None
    _check_sizes(valid, body_format, limits)
    return valid


def _decode_large(body: bytes, body_format: BodyFormat, limits: Settings, idempotency_key: str | None) -> ValidEvents:
    """Decode the events one by one, so that other requests can run in between."""
    try:
        texts = list(islice(body_format.split(body), limits.max_batch_events + 1))
        check_count(texts, limits)
        _check_nodes(texts, body_format)
        valid = finalize(_decoded(texts), idempotency_key)
    except (ValueError, RecursionError) as error:
        raise explain(body, body_format, limits, error) from None
    _check_sizes(valid, body_format, limits)
    return valid


def _decoded(texts: Sequence[Text]) -> Iterator[IncomingEvent]:
    time_slice = TimeSlice()
    for text in texts:
        yield decode_event(text)
        time_slice.check()


def _check_nodes(texts: Sequence[Text], body_format: BodyFormat) -> None:
    """Raise `problems.Problem` with status 413 for events with too many nodes.

    Raises `ValueError` or `RecursionError` if one of them is malformed or nested too deeply.
    """
    dense = [index for index, text in enumerate(texts) if has_too_many_nodes(text)]
    for index in dense:
        check_syntax(texts[index])
    if dense:
        message = f"Must contain at most {MAX_EVENT_NODES:,} commas and opening brackets."
        raise _event_too_large(dense, body_format, message)


def _check_sizes(valid: ValidEvents, body_format: BodyFormat, limits: Settings) -> None:
    max_bytes = limits.max_event_bytes + ADDED_BYTES
    oversized = [index for index, text in enumerate(valid.encoded) if len(text) > max_bytes]
    if oversized:
        message = f"Must have at most {limits.max_event_bytes} bytes as compact JSON."
        raise _event_too_large(oversized, body_format, message)


def _event_too_large(indexes: list[int], body_format: BodyFormat, message: str) -> problems.Problem:
    error = problems.field_error("event", message)
    return problems.too_large("Event too large", [located(index, body_format, error) for index in indexes])

"""Errors of an invalid body, with a limit of the time to find them.

The schema explains the first errors: it names each invalid field. An invalid event after them gets one error with the
reason of the decoder, which is much faster than the schema.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from api import problems
from api.decoding import lenient_json
from api.decoding.body_formats import BodyFormat, Text, decode_event
from api.decoding.event_schema import MAX_DEPTH, EventSchema
from api.decoding.incoming import finalize
from api.decoding.nodes import count_nodes, has_too_many_nodes
from api.decoding.time_slice import TimeSlice
from eventpulse.settings import Settings

#: Number of errors after which the schema explains no other event of the body.
MAX_EXPLAINED_ERRORS = 100
#: Number of bytes of a body that the schema examines. A node (see `count_nodes`) counts as `NODE_BYTES`.
MAX_EXAMINED_BYTES = 256 * 1024
NODE_BYTES = 16
#: Maximum number of nodes of a text that is cut because it is nested too deeply to be parsed.
MAX_PRUNED_NODES = 250_000
#: Field in an error message of msgspec.
FIELD = re.compile(r"field `(.+?)`| - at `\$\.?(.+)`$", re.DOTALL)

_schema = EventSchema()
check_syntax = msgspec.json.Decoder(msgspec.Raw).decode


def explain(body: bytes, body_format: BodyFormat, limits: Settings, rejection: Exception) -> problems.Problem:
    """Return the problem of a body that the decoders rejected with `rejection`.

    Raises `problems.Problem` for an error that concerns the whole body.
    """
    try:
        texts = list(islice(_split(body, body_format), limits.max_batch_events + 1))
    except (ValueError, RecursionError) as error:
        errors = _errors_of_undivided(body, body_format, limits, error)
    else:
        check_count(texts, limits)
        errors = _errors(texts, body_format, body)
    found = list(islice(errors, problems.MAX_ERRORS + 1))
    # The schema finds no error if a field occurs twice, because the lenient parser keeps only the last value.
    return problems.invalid(found or [_brief(rejection)], "Invalid event")


def check_count(events: Sequence[Any], limits: Settings) -> None:
    """Raise `problems.Problem` if a batch is empty (400) or has too many events (413)."""
    if not events:
        raise problems.invalid([problems.field_error("events", "Must contain at least one event.")], "Empty batch")
    if len(events) > limits.max_batch_events:
        message = f"Must contain at most {limits.max_batch_events} events."
        raise problems.too_large("Too many events", [problems.field_error("events", message)])


def located(index: int, body_format: BodyFormat, error: problems.Error) -> problems.Error:
    """Return the error of the event at `index`; with the index, if the body is a batch."""
    return {"index": index, **error} if body_format.is_batch else error


def _split(body: bytes, body_format: BodyFormat) -> Iterator[Text]:
    try:
        yield from body_format.split(body)
    except RecursionError:
        yield from body_format.split(_pruned(body))


def _pruned(text: bytes) -> bytes:
    return lenient_json.pruned(text) if count_nodes(text) <= MAX_PRUNED_NODES else text


def _errors(texts: Sequence[Text], body_format: BodyFormat, body: bytes) -> Iterator[problems.Error]:
    """Yield the errors of the events with the JSON texts `texts`."""
    explained, bytes_left = 0, MAX_EXAMINED_BYTES
    time_slice = TimeSlice()
    for index, text in enumerate(texts):
        time_slice.check()
        rejection = _rejection(text)
        if rejection is None:
            continue
        errors: list[problems.Error] = []
        if explained < MAX_EXPLAINED_ERRORS:
            examined, rejection = _examined(bytes(text), rejection, bytes_left)
            bytes_left -= _cost(examined)
            if bytes_left >= 0:
                errors = _explained(lenient_json.parse(examined, _line(index, body_format, body)), body_format)
        explained += len(errors)
        yield from (located(index, body_format, error) for error in errors or [_brief(rejection)])


def _examined(text: bytes, rejection: Exception, max_cost: int) -> tuple[bytes, Exception]:
    """Return the text for the schema and the reason for the rejection.

    A text that costs too much is checked for its syntax, which is fast. It is cut if it is nested too deeply.
    """
    if _cost(text) <= max_cost:
        return text, rejection
    try:
        check_syntax(text)
    except RecursionError as error:
        return _pruned(text), error
    except ValueError as error:
        return text, error
    return text, rejection


def _errors_of_undivided(
    body: bytes, body_format: BodyFormat, limits: Settings, rejection: Exception
) -> Iterator[problems.Error]:
    """Yield the errors of the events of a body that is not a JSON array of values without NaN and Infinity."""
    if _cost(body) > MAX_EXAMINED_BYTES:
        raise problems.invalid([_brief(rejection, "body")], "Malformed JSON")
    values = list(islice(body_format.parse(body), limits.max_batch_events + 1))
    check_count(values, limits)
    time_slice = TimeSlice()
    for index, value in enumerate(values):
        time_slice.check()
        yield from (located(index, body_format, error) for error in _explained(value, body_format))


def _explained(value: Any, body_format: BodyFormat) -> list[problems.Error]:
    """Return the errors that the schema finds in the JSON value of an event.

    Raises `problems.Problem` if the value is `Malformed` and its event is the whole body.
    """
    if isinstance(value, lenient_json.Malformed) and body_format.is_batch:
        return [problems.field_error("event", value.reason)]
    return list(problems.flatten(_schema.validate(lenient_json.well_formed(value)), root="event"))


def _rejection(text: Text) -> Exception | None:
    """Return the exception for an invalid event, or None if the event is valid.

    Only the syntax of an event with too many nodes is checked, because decoding it would take too long.
    """
    try:
        if has_too_many_nodes(text):
            check_syntax(text)
        else:
            finalize([decode_event(text)], idempotency_key=None)
    except (ValueError, RecursionError) as error:
        return error
    return None


def _brief(rejection: Exception, whole: str = "event") -> problems.Error:
    """Return an error with the reason of the decoder. `whole` is the field name if the reason names no field."""
    if isinstance(rejection, RecursionError):
        return problems.field_error(whole, f"Must not be nested deeper than {MAX_DEPTH} levels.")
    reason = str(rejection)
    field = FIELD.search(reason) if isinstance(rejection, msgspec.ValidationError) else None
    name = (field[1] or field[2]) if field else whole
    return problems.field_error(problems.printable(name), problems.printable(reason.partition(" - at `$")[0] + "."))


def _cost(text: bytes) -> int:
    return len(text) + (NODE_BYTES - 1) * count_nodes(text)


def _line(index: int, body_format: BodyFormat, body: bytes) -> str:
    """Return the location of the event at `index` for an error message; empty if the body does not consist of lines."""
    if not body_format.has_lines:
        return ""
    number, _ = next(islice(lenient_json.numbered_lines(body), index, None))
    return f" of line {number}"

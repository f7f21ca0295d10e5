"""Formats of a request body that contains events: one event, a batch in JSON, and NDJSON."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from api.decoding import lenient_json
from api.decoding.incoming import IncomingEvent

Text = bytes | msgspec.Raw


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """Batch in the form of an object with the field `events`."""

    events: list[IncomingEvent]


class RawEnvelope(msgspec.Struct, forbid_unknown_fields=True):
    """Envelope whose events are not decoded."""

    events: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """Format of a request body that contains events.

    decode: returns the events of a valid body. Raises `ValueError` or `RecursionError` if the body is invalid.
    split: returns the JSON text of each event, valid or invalid. Raises `ValueError` or `RecursionError` if the body
        cannot be divided into events.
    parse: returns a JSON value or `Malformed` for each event of a body that `split` cannot divide. Raises
        `problems.Problem` if this is not possible either.
    is_batch: whether each error contains the index of its event.
    has_lines: whether each event is a line of the body.
    """

    decode: Callable[[bytes], list[IncomingEvent]]
    split: Callable[[bytes], Iterable[Text]]
    parse: Callable[[bytes], Iterable[Any]]
    is_batch: bool = True
    has_lines: bool = False


decode_event = msgspec.json.Decoder(IncomingEvent).decode
_decode_array = msgspec.json.Decoder(list[IncomingEvent]).decode
_decode_envelope = msgspec.json.Decoder(Envelope).decode
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_split_envelope = msgspec.json.Decoder(RawEnvelope).decode


def _is_envelope(body: bytes) -> bool:
    return body.lstrip()[:1] == b"{"


def _decode_batch(body: bytes) -> list[IncomingEvent]:
    return _decode_envelope(body).events if _is_envelope(body) else _decode_array(body)


def _split_batch(body: bytes) -> list[msgspec.Raw]:
    return _split_envelope(body).events if _is_envelope(body) else _split_array(body)


def _decode_lines(body: bytes) -> list[IncomingEvent]:
    return [decode_event(line) for line in body.split(b"\n") if line.strip()]


def _split_lines(body: bytes) -> Iterable[bytes]:
    return (line for _, line in lenient_json.numbered_lines(body))


SINGLE = BodyFormat(lambda body: [decode_event(body)], lambda body: [body], lenient_json.parse_single, is_batch=False)
BATCH = BodyFormat(_decode_batch, _split_batch, lenient_json.parse_batch)
NDJSON = BodyFormat(_decode_lines, _split_lines, lenient_json.parse_lines, has_lines=True)

"""Dramatiq messages as bytes: what lies in Redis, made and read without copying the event inside.

Events travel through the stages in bundles: a line of what their messages have in common, then a line for each event,
of its options, a blank, and the event, as the API wrote it. `scripts/fetch.lua` makes whole messages of a bundle when
they are to be processed one by one; their ids are the bundle's with their place in it.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from time import time_ns
from typing import Any, NamedTuple

import msgspec
from dramatiq.encoder import Encoder
from dramatiq.message import Message

# 96 random bits a process and thread-safe counter make ids unique without a system call for each.
_PREFIX = secrets.token_hex(12)
_NUMBERS = count()
_BUNDLE_ID = re.compile(r"\d+\*")

#: Messages that share an entry of a queue: enough to make an entry's cost small, few enough to spread over workers.
MAX_BUNDLE_MESSAGES = 250


class JSONEncoder(Encoder):
    """Dramatiq's JSON, by msgspec: faster, and at home with arguments that are JSON already (`msgspec.Raw`)."""

    def encode(self, data: dict[str, Any]) -> bytes:
        return msgspec.json.encode(data)

    def decode(self, data: bytes) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.json.decode(data)
        return fields


class _Unopened(msgspec.Struct):
    """A message whose arguments stay JSON: a stage that handles thousands opens only what it needs."""

    queue_name: str
    actor_name: str
    args: tuple[msgspec.Raw, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    message_id: str
    message_timestamp: int


class _Identified(msgspec.Struct):
    event_id: str | None = None


class _Stamp(msgspec.Struct):
    message_timestamp: int


class _Head(_Stamp):
    queue_name: str
    actor_name: str
    kwargs: dict[str, Any]


class _Options(msgspec.Struct):
    request_id: str | None = None


_unopened = msgspec.json.Decoder(_Unopened)
_stamp = msgspec.json.Decoder(_Stamp)
_head = msgspec.json.Decoder(_Head)
_options = msgspec.json.Decoder(_Options)
_identified = msgspec.json.Decoder(_Identified)


def new_id() -> str:
    """An id for one message or bundle in Redis."""
    return f"{_PREFIX}{next(_NUMBERS):x}"


class Bundle(NamedTuple):
    """Messages that share an entry of a queue."""

    id: str
    data: bytes


def is_bundle(entry_id: str) -> bool:
    return _BUNDLE_ID.match(entry_id) is not None


def line(event: bytes, request_id: str | None) -> bytes:
    """An event's line in a bundle; `event` is a JSON object without line breaks, and is not parsed."""
    return b'{"request_id":"%b"} %b' % (request_id.encode(), event) if request_id else b"{} %b" % event


def event_of(line: bytes) -> bytes:
    return line.partition(b" ")[2]


def request_id_of(line: bytes) -> str | None:
    return _options.decode(line.partition(b" ")[0]).request_id


def bundles(actor_name: str, lines: Sequence[bytes], batch: int) -> Iterator[Bundle]:
    """Yield bundles of messages `actor_name(event)`, one a line, for the queue of that name.

    None has more than the `batch` that a worker takes, nor more than `MAX_BUNDLE_MESSAGES`.
    """
    largest = min(batch, MAX_BUNDLE_MESSAGES)
    name, now = actor_name.encode(), time_ns() // 1_000_000
    head = b'{"queue_name":"%b","actor_name":"%b","kwargs":{},"message_timestamp":%d' % (name, name, now)
    for start in range(0, len(lines), largest):
        part = lines[start : start + largest]
        yield Bundle(f"{len(part)}*{new_id()}", b"\n".join((head, *part)))


def event_ids(made: Iterable[Bundle], lines: Iterable[bytes]) -> dict[str, list[str]]:
    """The ids of the events of each bundle by its own id; the bundles are those that `bundles` made of these lines.

    Raises `msgspec.DecodeError`.
    """
    found = (_identified.decode(event_of(line)).event_id for line in lines)
    return {bundle.id: [each for each in islice(found, int(bundle.id.partition("*")[0])) if each] for bundle in made}


def decode_bundle(bundle_id: str, data: bytes) -> tuple[Message[Any], list[bytes]]:
    """A bundle as one message, of all its events as `msgspec.Raw`, and its lines; the options are those of one alone.

    Raises `ValueError`.
    """
    head, *lines = data.split(b"\n")
    common = _head.decode(head + b"}")
    events = tuple([msgspec.Raw(event_of(line)) for line in lines])
    options = msgspec.json.decode(lines[0].partition(b" ")[0]) if len(lines) == 1 else {}
    message: Message[Any] = Message(
        common.queue_name, common.actor_name, events, common.kwargs, options, bundle_id, common.message_timestamp
    )
    return message, lines


def decode_unopened(data: bytes) -> Message[Any]:
    """A message with its arguments as `msgspec.Raw`. Raises `msgspec.DecodeError`."""
    found = _unopened.decode(data)
    return Message(
        found.queue_name,
        found.actor_name,
        found.args,
        found.kwargs,
        found.options,
        found.message_id,
        found.message_timestamp,
    )


def queued_at(entry_id: str, data: bytes) -> float:
    """When an entry was queued, in seconds since 1970. Raises `msgspec.DecodeError`."""
    stamped = data.partition(b"\n")[0] + b"}" if is_bundle(entry_id) else data
    return _stamp.decode(stamped).message_timestamp / 1000


def event_id_of(message: Message[Any]) -> str | None:
    """The id of the event that an unopened message is about, if it is about one."""
    try:
        return _identified.decode(message.args[0]).event_id
    except (IndexError, TypeError, msgspec.DecodeError):
        return None

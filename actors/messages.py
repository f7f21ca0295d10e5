"""Dramatiq messages as bytes: what lies in Redis, made and read without copying the event inside."""

import secrets
from collections.abc import Iterator, Sequence
from itertools import count
from time import time_ns
from typing import Any

import msgspec
from dramatiq.encoder import Encoder
from dramatiq.message import Message

# 96 random bits a process and thread-safe counter make ids unique without a system call for each.
_PREFIX = secrets.token_hex(12)
_NUMBERS = count()


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


_unopened = msgspec.json.Decoder(_Unopened)
_identified = msgspec.json.Decoder(_Identified)


def decode_unopened(data: bytes) -> Message[Any]:
    """A message with its arguments as `msgspec.Raw`. Raises `msgspec.DecodeError`."""
    found = _unopened.decode(data)
    return Message(
        queue_name=found.queue_name,
        actor_name=found.actor_name,
        args=found.args,
        kwargs=found.kwargs,
        options=found.options,
        message_id=found.message_id,
        message_timestamp=found.message_timestamp,
    )


def event_id_of(message: Message[Any]) -> str | None:
    """The id of the event that an unopened message is about, if it is about one."""
    try:
        return _identified.decode(message.args[0]).event_id
    except (IndexError, TypeError, msgspec.DecodeError):
        return None


def new_id() -> str:
    """An id for one message in Redis."""
    return f"{_PREFIX}{next(_NUMBERS):x}"


def encode_events(actor_name: str, events: Sequence[bytes], request_ids: Sequence[str | None]) -> Iterator[bytes]:
    """Yield an id and a message for each event: `actor_name(event)`, on the queue of the same name.

    `events` are JSON objects; they are wrapped, not parsed.
    """
    now = time_ns() // 1_000_000
    head = f'{{"queue_name":"{actor_name}","actor_name":"{actor_name}","kwargs":{{}},"message_timestamp":{now}'
    for event, request_id in zip(events, request_ids, strict=True):
        message_id = new_id()
        origin = f',"request_id":{msgspec.json.encode(request_id).decode()}' if request_id else ""
        options = f'"options":{{"redis_message_id":"{message_id}"{origin}}}'
        yield message_id.encode()
        yield b"".join((f'{head},"message_id":"{message_id}",{options},"args":['.encode(), event, b"]}"))

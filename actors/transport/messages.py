"""Dramatiq messages as bytes in Redis, written and read without parsing their arguments.

Two kinds of queue entries exist:

- A *message* is one JSON object, as Dramatiq encodes it.
- A *bundle* is one or more messages `actor_name(argument)` that are stored, leased and acknowledged together. Its first
  line, the *head*, is a JSON object of the fields that the messages share. Each further line is a *record*: the options
  of one message, a space, and its argument. Options and argument are compact JSON; the options contain no space.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import time_ns
from typing import Any, NamedTuple

import msgspec
from dramatiq.encoder import Encoder
from dramatiq.message import Message

from actors.transport.entry_id import EntryId, new_id

#: Maximum number of messages in a bundle. A larger bundle costs less per message, but only one worker can process it.
MAX_BUNDLE_MESSAGES = 250
#: Options that describe the past attempts of a message. They are removed for a replay and for the next stage.
ATTEMPT_OPTIONS = frozenset({"retries", "traceback", "requeue_timestamp", "eta", "queued_at"})


class JSONEncoder(Encoder):
    """JSON encoder that uses msgspec, which is faster and accepts arguments that are JSON already (`msgspec.Raw`)."""

    def encode(self, data: dict[str, Any]) -> bytes:
        return msgspec.json.encode(data)

    def decode(self, data: bytes) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.json.decode(data)
        return fields


class _RawMessage(msgspec.Struct):
    """Message whose arguments stay JSON, so that an actor decodes only the fields that it needs."""

    queue_name: str
    actor_name: str
    args: tuple[msgspec.Raw, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    message_id: str
    message_timestamp: int


class _TimeOptions(msgspec.Struct):
    queued_at: int | None = None


class _Times(msgspec.Struct):
    message_timestamp: int
    options: _TimeOptions = msgspec.field(default_factory=_TimeOptions)


class _Head(msgspec.Struct):
    queue_name: str
    actor_name: str
    kwargs: dict[str, Any]
    message_timestamp: int


_decode_raw_message = msgspec.json.Decoder(_RawMessage).decode
_decode_times = msgspec.json.Decoder(_Times).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_options = msgspec.json.Decoder(dict[str, Any]).decode


class Bundle(NamedTuple):
    """Queue entry with one or more messages: its id and its bytes."""

    id: str
    data: bytes


def make_records(arguments: Iterable[bytes], options: Mapping[str, Any]) -> list[bytes]:
    """Return one record for each argument, all with the same options.

    The arguments must be compact JSON without line breaks; they are not parsed.
    """
    # The options must not contain a space, because a record is split at its first space. msgspec writes spaces only
    # inside strings, where `\u0020` means the same.
    head = msgspec.json.encode(options).replace(b" ", rb"\u0020") + b" "
    return [head + argument for argument in arguments]


def argument_of(record: bytes) -> bytes:
    """Return the argument of a record as JSON."""
    return record.partition(b" ")[2]


def options_of(record: bytes) -> dict[str, Any]:
    """Return the options of a record. Raises `msgspec.DecodeError`."""
    return _decode_options(record.partition(b" ")[0])


def make_bundles(actor_name: str, records: Sequence[bytes], batch_size: int) -> Iterator[Bundle]:
    """Yield bundles for the queue `actor_name`; each record becomes one message `actor_name(argument)`.

    A bundle has at most `MAX_BUNDLE_MESSAGES` messages, and at most `batch_size`, the maximum that a consumer leases
    in one call.
    """
    largest = min(batch_size, MAX_BUNDLE_MESSAGES)
    head = msgspec.json.encode(_Head(actor_name, actor_name, {}, _now_ms()))
    for start in range(0, len(records), largest):
        part = records[start : start + largest]
        yield Bundle(str(EntryId(new_id(), len(part))), b"\n".join((head, *part)))


def decode_bundle(bundle_id: str, data: bytes) -> tuple[Message[Any], list[bytes]]:
    """Return one message with the arguments of all messages of a bundle as `msgspec.Raw`, and the bundle's records.

    If the bundle has only one record, the message has the options of that record. Raises `ValueError` if the bundle is
    unreadable.
    """
    head, *records = data.split(b"\n")
    common = _decode_head(head)
    arguments = tuple([msgspec.Raw(argument_of(record)) for record in records])
    options = options_of(records[0]) if len(records) == 1 else {}
    message: Message[Any] = Message(
        common.queue_name, common.actor_name, arguments, common.kwargs, options, bundle_id, common.message_timestamp
    )
    return message, records


def split_bundle(bundle_id: str, data: bytes) -> list[tuple[str, bytes]]:
    """Return the id and the bytes of each message of a bundle. Accepts any bytes and drops no line.

    A line that is not a record becomes an entry that cannot be decoded; the consumer dead-letters the entry.
    """
    head, *records = data.split(b"\n")
    parent = EntryId.parse(bundle_id)
    if not records:
        return [(str(parent.part(1)), data)]
    ids = [str(parent.part(position)) for position in range(1, len(records) + 1)]
    return [(part_id, _single_message(part_id, head, record)) for part_id, record in zip(ids, records, strict=True)]


def _single_message(message_id: str, head: bytes, record: bytes) -> bytes:
    options, blank, argument = record.partition(b" ")
    try:
        fields = msgspec.structs.asdict(_decode_head(head))
    except ValueError:
        blank = b""
    if not blank:
        return b"%b\n%b" % (head, record)
    fields |= {"message_id": message_id, "options": msgspec.Raw(options), "args": [msgspec.Raw(argument)]}
    return msgspec.json.encode(fields)


def decode_message(data: bytes) -> Message[Any]:
    """Return a message with its arguments as `msgspec.Raw`. Raises `msgspec.DecodeError`."""
    return Message(**msgspec.structs.asdict(_decode_raw_message(data)))


def records_of(message: Message[Any]) -> list[bytes]:
    """Return one record for each argument of a message from `decode_message`, without the options of past attempts."""
    options = {name: value for name, value in message.options.items() if name not in ATTEMPT_OPTIONS}
    return make_records(map(bytes, message.args), options)


def encode_message(message: Message[Any], delay_ms: int) -> bytes:
    """Return the bytes of a message that is due in `delay_ms`.

    The option `queued_at` is the time when the message is due, in milliseconds since the Unix epoch; the timestamp of
    a message remains that of its first attempt.
    """
    return message.copy(options={"queued_at": _now_ms() + delay_ms}).encode()


def queued_at(data: bytes) -> float:
    """Return the time when an entry was enqueued or, after a delay, became due, in seconds since the Unix epoch.

    Raises `msgspec.DecodeError`.
    """
    times = _decode_times(data.partition(b"\n")[0])
    return (times.options.queued_at or times.message_timestamp) / 1000


def _now_ms() -> int:
    return time_ns() // 1_000_000

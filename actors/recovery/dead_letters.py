"""Dead letters: kept in PostgreSQL, seen and replayed by operators.

A worker puts what it gives up into Redis, in the step that settles it, for PostgreSQL may be away just then.
From there `reconcile` moves it: stored first, removed after, so that a crash in between repeats itself harmlessly.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from dramatiq.message import Message

import actors.pipeline  # noqa: F401 - declares the actors, whose queues are searched and whose messages are replayed
from actors.broker import broker
from actors.transport.messages import decode_unopened
from models.database import connection, database
from models.dead_letter import DeadLetter
from models.delivery import Delivery

T = TypeVar("T")

CHUNK = 100
# What a message carries of its past: a replayed one starts afresh.
HISTORY = {"retries", "traceback", "requeue_timestamp", "eta"}


class NotReplayable(Exception):
    """The dead letter is not a message of ours: to run it again would kill it again."""


def reconcile() -> int:
    """Move the dead letters that lie in Redis into PostgreSQL; returns how many there were.

    Raises `redis.RedisError` or `peewee.PeeweeException` when a server is away.
    """
    moved = 0
    for queue_name in sorted(broker.get_declared_queues()):
        while letters := _buried(queue_name):
            with connection(), database.atomic():
                DeadLetter.insert_many(letters).on_conflict_ignore().execute()
                for letter in letters:
                    if delivery := _delivery(letter):
                        Delivery.bury(*delivery, letter["error"])
            _forget(queue_name, [letter["dead_letter_id"] for letter in letters])
            moved += len(letters)
    return moved


def count(queue_name: str | None = None) -> int:
    with connection():
        return int(_selected(queue_name).count())


def list_(limit: int, queue_name: str | None = None) -> list[DeadLetter]:
    """The newest dead letters first."""
    with connection():
        return list(
            _selected(queue_name).order_by(DeadLetter.dead_lettered_at.desc(), DeadLetter.dead_letter_id).limit(limit)
        )


def get(dead_letter_id: str) -> DeadLetter | None:
    with connection():
        return DeadLetter.get_or_none(DeadLetter.dead_letter_id == dead_letter_id)


def replay(dead_letter_ids: Sequence[str]) -> int:
    """Queue dead letters again, as new as on their first day; returns how many there were.

    Each is queued before it is removed: a crash in between runs it once more, which changes nothing.
    Raises `NotReplayable`; those before it are queued then.
    """
    replayed = 0
    for dead_letter_id in dead_letter_ids:
        letter = get(dead_letter_id)
        if letter is None:
            continue
        broker.enqueue(_afresh(letter))
        replayed += purge([dead_letter_id])
    return replayed


def purge(dead_letter_ids: Sequence[str]) -> int:
    """Delete dead letters for good; returns how many there were."""
    with connection():
        return int(DeadLetter.delete().where(DeadLetter.dead_letter_id.in_(list(dead_letter_ids))).execute())


def _selected(queue_name: str | None) -> Any:
    letters = DeadLetter.select()
    return letters if queue_name is None else letters.where(DeadLetter.queue_name == queue_name)


def _afresh(letter: DeadLetter) -> Message[Any]:
    try:
        message = decode_unopened(bytes(letter.message))  # its arguments stay as they are, to the last digit
        broker.get_actor(message.actor_name)
    except Exception as error:
        raise NotReplayable(f"{letter.dead_letter_id} cannot be replayed: {letter.error}") from error
    options = {name: value for name, value in message.options.items() if name not in HISTORY}
    return Message(message.queue_name, message.actor_name, message.args, message.kwargs, options, message.message_id)


def _buried(queue_name: str) -> list[dict[str, Any]]:
    key = f"{broker.namespace}:{queue_name}.XQ"
    died: list[tuple[bytes, float]] = broker.client.zrange(key, 0, CHUNK - 1, withscores=True)  # type: ignore[assignment]
    if not died:
        return []
    ids = [message_id for message_id, _ in died]
    pipeline = broker.client.pipeline(transaction=False)
    pipeline.hmget(f"{key}.msgs", ids)
    pipeline.hmget(f"{key}.why", ids)
    messages, reasons = pipeline.execute()
    return [
        _letter(queue_name, message_id, milliseconds, message or b"", (why or b"").decode(errors="replace"))
        for (message_id, milliseconds), message, why in zip(died, messages, reasons, strict=True)
    ]


class _Options(msgspec.Struct):
    request_id: str | None = None
    retries: int = 0
    traceback: str | None = None


class _Readable(msgspec.Struct):
    """As much of a message as its dead letter tells in columns of their own."""

    actor_name: str | None = None
    args: list[Any] = []
    options: _Options = msgspec.field(default_factory=_Options)


class _EventArgument(msgspec.Struct):
    event_id: UUID


def _letter(queue_name: str, message_id: bytes, milliseconds: float, data: bytes, why: str) -> dict[str, Any]:
    message = _read(data, _Readable) or _Readable()  # whatever it is, it is kept as it is
    event = _convert(message.args[:1], tuple[_EventArgument])
    return {
        "dead_letter_id": message_id.decode(errors="replace"),
        "queue_name": queue_name,
        "actor_name": _storable(message.actor_name),
        "event_id": event[0].event_id if event else None,
        "request_id": _storable(message.options.request_id),
        "attempts": message.options.retries,
        "error": _storable(why),
        "traceback": _storable(message.options.traceback),
        "message": data,
        "dead_lettered_at": datetime.fromtimestamp(milliseconds / 1000, UTC),
    }


def _delivery(letter: dict[str, Any]) -> tuple[UUID, UUID] | None:
    """The anomaly and the channel of a notification that died."""
    message = _read(letter["message"], _Readable)
    return _convert(message.args, tuple[UUID, UUID]) if message and message.actor_name == "notify" else None


def _read(data: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def _convert(value: Any, kind: type[T]) -> T | None:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


def _storable(text: str | None) -> str | None:
    """PostgreSQL keeps no NUL in a text."""
    return text and text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _forget(queue_name: str, message_ids: list[str]) -> None:
    key = f"{broker.namespace}:{queue_name}.XQ"
    pipeline = broker.client.pipeline()
    pipeline.zrem(key, *message_ids)
    pipeline.hdel(f"{key}.msgs", *message_ids)
    pipeline.hdel(f"{key}.why", *message_ids)
    pipeline.execute()

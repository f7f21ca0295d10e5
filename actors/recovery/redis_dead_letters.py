"""Dead letters in Redis, which the queue scripts store in the keys `$queue.XQ*`."""

from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from actors.broker import broker

T = TypeVar("T")


class _Options(msgspec.Struct):
    request_id: str | None = None
    retries: int = 0
    traceback: str | None = None


class _Readable(msgspec.Struct):
    """Parts of a message that have separate columns in PostgreSQL."""

    actor_name: str | None = None
    args: list[Any] = []
    options: _Options = msgspec.field(default_factory=_Options)


class _EventArgument(msgspec.Struct):
    event_id: UUID


def oldest(queue_name: str, limit: int) -> list[dict[str, Any]]:
    """Return the columns of up to `limit` dead letters of a queue, oldest first. Raises `redis.RedisError`."""
    key = f"{broker.namespace}:{queue_name}.XQ"
    found: list[tuple[bytes, float]] = broker.client.zrange(key, 0, limit - 1, withscores=True)  # type: ignore[assignment]
    if not found:
        return []
    ids = [message_id for message_id, _ in found]
    pipeline = broker.client.pipeline(transaction=False)
    pipeline.hmget(f"{key}.msgs", ids)
    pipeline.hmget(f"{key}.why", ids)
    messages, reasons = pipeline.execute()
    return [
        _letter(queue_name, message_id, milliseconds, message or b"", (why or b"").decode(errors="replace"))
        for (message_id, milliseconds), message, why in zip(found, messages, reasons, strict=True)
    ]


def remove(queue_name: str, message_ids: list[str]) -> None:
    """Delete dead letters from Redis. Raises `redis.RedisError`."""
    key = f"{broker.namespace}:{queue_name}.XQ"
    pipeline = broker.client.pipeline()
    pipeline.zrem(key, *message_ids)
    pipeline.hdel(f"{key}.msgs", *message_ids)
    pipeline.hdel(f"{key}.why", *message_ids)
    pipeline.execute()


def _letter(queue_name: str, message_id: bytes, milliseconds: float, data: bytes, why: str) -> dict[str, Any]:
    message = _read(data, _Readable) or _Readable()  # an unreadable message is stored too
    event = _convert(message.args[:1], tuple[_EventArgument])
    return {
        "dead_letter_id": message_id.decode(errors="replace"),
        "queue_name": queue_name,
        "actor_name": message.actor_name,
        "event_id": event[0].event_id if event else None,
        "request_id": message.options.request_id,
        "attempts": message.options.retries,
        "error": why,
        "traceback": message.options.traceback,
        "message": data,
        "dead_lettered_at": datetime.fromtimestamp(milliseconds / 1000, UTC),
    }


def delivery_of(letter: dict[str, Any]) -> tuple[UUID, UUID] | None:
    """Return the anomaly id and the channel id if the dead letter is a `notify` message, otherwise None."""
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

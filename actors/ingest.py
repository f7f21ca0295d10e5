"""The door of the queue: what has passed it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from actors.broker import broker
from actors.messages import bundles, line
from actors.queues import Unavailable

QUEUE = "persist"
RETRY_AFTER_SECONDS = 2.0


@dataclass
class HighWaterMarks:
    """Where ingest stops, well before Redis does: a full Redis would stop the workers too."""

    backlog: int = 1_000_000
    redis_memory_percent: int = 80


marks = HighWaterMarks()


def accept(events: Sequence[bytes], request_id: str | None) -> None:
    """Queue one `persist` message for each event, all or none, in one round trip to Redis.

    `events` are JSON objects; they are queued as they are. When this returns, Redis has confirmed them.
    Raises `Unavailable` when Redis is away, or the backlog or Redis' memory is above its high-water mark.
    Then nothing was queued or, after a time-out, these very events were: to send them again is safe.
    """
    arguments: list[Any] = [QUEUE, marks.backlog, marks.redis_memory_percent]
    arguments += bundles(QUEUE, [line(event, request_id) for event in events])
    try:
        accepted = broker.scripts["accept"](keys=[broker.namespace], args=arguments)
    except redis.RedisError as error:
        raise Unavailable("Redis cannot be reached or cannot write", RETRY_AFTER_SECONDS) from error
    if accepted == -1:
        raise Unavailable(f"more than {marks.backlog} events wait to be stored", RETRY_AFTER_SECONDS)
    if accepted == -2:
        raise Unavailable(f"Redis uses more than {marks.redis_memory_percent} % of its memory", RETRY_AFTER_SECONDS)

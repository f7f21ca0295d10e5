"""Check that keeps jobs from requeueing messages that still wait in their queue."""

from actors.broker import broker
from actors.transport import queues


def is_behind(queue_name: str, overdue_seconds: float) -> bool:
    """Return whether the oldest message of a queue is so old that waiting messages may soon count as lost.

    `overdue_seconds` is the age at which work counts as lost; the limit is half of it. Raises `redis.RedisError`.
    """
    return queues.depths(broker, queue_name)[queue_name].oldest_age_seconds > overdue_seconds / 2

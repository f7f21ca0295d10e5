"""Check that prevents jobs from requeueing messages that still wait in the queue."""

from actors.broker import broker
from actors.transport import queues


def is_behind(queue_name: str, overdue_seconds: float) -> bool:
    """Return whether the oldest message of a queue is so old that waiting messages may soon count as lost.

    `overdue_seconds` is the age at which work counts as lost; the limit for the queue is half of that age.
    Raises `redis.RedisError`.
    """
    return queues.depths(broker, queue_name)[queue_name].oldest_age_seconds > overdue_seconds / 2

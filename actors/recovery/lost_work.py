"""Guard of the jobs that find lost work."""

from actors.broker import broker
from actors.transport import queues


def is_behind(queue_name: str, overdue_seconds: float) -> bool:
    """Return whether a queue is so far behind that work which waits in it would look lost.

    `overdue_seconds` is the age from which work counts as lost. Raises `redis.RedisError`.
    """
    return queues.depths(broker, queue_name)[queue_name].oldest_age_seconds > overdue_seconds / 2

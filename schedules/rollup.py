"""Roll the counts of each minute up into the throughput table."""

from datetime import datetime, timedelta

import redis

from actors.broker import broker
from actors.transport.queues import depths
from models.anomaly import Anomaly
from models.base import now
from models.database import connection
from models.delivery import Delivery
from models.throughput import Throughput

#: Minutes that are still rolled up after they passed: what a scheduler that was away left undone.
LOOK_BACK_MINUTES = 60
COUNTED_IN_REDIS = ("accepted", "persisted", "evaluated", "late", "conflicting", "dead")


def roll_up() -> int:
    """Write the row of this minute, and of each past one that something happened in; returns how many.

    A row replaces what was written of its minute before. Raises `redis.RedisError` or
    `peewee.PeeweeException` when a server is away.
    """
    this_minute = now().replace(second=0, microsecond=0)
    minutes = [this_minute - timedelta(minutes=back) for back in range(LOOK_BACK_MINUTES, -1, -1)]
    states = depths(broker)
    queues = {
        "queue_depth": sum(state.depth for state in states.values()),
        "oldest_age_seconds": max((state.oldest_age_seconds for state in states.values()), default=0.0),
    }
    counts = _counts_in_redis(broker.client, minutes)
    with connection():
        anomalies = Anomaly.count_by_minute(minutes[0])
        delivered = Delivery.count_by_minute(minutes[0])
        written = 0
        for minute, counted in zip(minutes, counts, strict=True):
            counted |= {"anomalies": anomalies.get(minute, 0), "delivered": delivered.get(minute, 0)}
            if minute == this_minute:
                counted |= queues
            elif not any(counted.values()):
                continue
            Throughput.record(minute, **counted)
            written += 1
    return written


def _counts_in_redis(client: redis.Redis, minutes: list[datetime]) -> list[dict[str, int | float]]:
    pipeline = client.pipeline(transaction=False)
    for minute in minutes:
        pipeline.hgetall(f"{broker.namespace}:counts:{int(minute.timestamp()) // 60}")
    return [{name: int(found.get(name.encode(), 0)) for name in COUNTED_IN_REDIS} for found in pipeline.execute()]

"""Roll-up of the counts of each minute into the throughput table."""

from datetime import datetime, timedelta

import redis

from actors.broker import broker
from actors.transport.queues import depths
from models.anomaly import Anomaly
from models.base import now
from models.database import connection
from models.delivery import Delivery
from models.throughput import Throughput

#: Number of past minutes that each roll-up includes, in case no scheduler was running at the time.
LOOK_BACK_MINUTES = 60
COUNTED_IN_REDIS = ("accepted", "persisted", "evaluated", "late", "conflicting", "dead")


def roll_up() -> int:
    """Store the counts of the current minute and of the past hour, and return the number of rows.

    The counts replace the existing row of their minute. No row is stored for a past minute whose counts are all 0.
    Raises `redis.RedisError` or `peewee.PeeweeException` if a server is unavailable.
    """
    this_minute = now().replace(second=0, microsecond=0)
    minutes = [this_minute - timedelta(minutes=back) for back in range(LOOK_BACK_MINUTES, -1, -1)]
    queues = _queue_state()
    counts_in_redis = _counts_in_redis(broker.client, minutes)
    with connection():
        anomalies = Anomaly.count_by_minute(minutes[0])
        delivered = Delivery.count_by_minute(minutes[0])
        rows = 0
        for minute, counts in zip(minutes, counts_in_redis, strict=True):
            counts |= {"anomalies": anomalies.get(minute, 0), "delivered": delivered.get(minute, 0)}
            if minute == this_minute:
                counts |= queues
            elif not any(counts.values()):
                continue
            Throughput.record(minute, **counts)
            rows += 1
    return rows


def _queue_state() -> dict[str, int | float]:
    states = depths(broker).values()
    return {
        "queue_depth": sum(state.depth for state in states),
        "oldest_age_seconds": max((state.oldest_age_seconds for state in states), default=0.0),
    }


def _counts_in_redis(client: redis.Redis, minutes: list[datetime]) -> list[dict[str, int | float]]:
    pipeline = client.pipeline(transaction=False)
    for minute in minutes:
        pipeline.hgetall(f"{broker.namespace}:counts:{int(minute.timestamp()) // 60}")
    return [{name: int(counts.get(name.encode(), 0)) for name in COUNTED_IN_REDIS} for counts in pipeline.execute()]

"""State of the queues and number of running workers, for monitoring."""

import time
from dataclasses import dataclass
from typing import Any

import msgspec

from actors.transport.messages import queued_at
from actors.transport.redis_broker import HEARTBEAT_TIMEOUT_MS, RedisBroker

#: Age of the oldest message, in seconds, above which the workers count as too slow.
LAGGING_SECONDS = 30


@dataclass(frozen=True, slots=True)
class QueueState:
    """State of one queue.

    `depth`: number of messages that are not acknowledged, including delayed messages. `delayed`: number of delayed
    entries. `dead`: number of dead letters that are still in Redis. `oldest_age_seconds`: age of the entry that is
    leased next; 0 if no entry waits.
    """

    depth: int
    delayed: int
    dead: int
    oldest_age_seconds: float


def depths(broker: RedisBroker, *names: str) -> dict[str, QueueState]:
    """Return the state of each queue in `names`, by default of all queues. Raises `redis.RedisError`."""
    names = names or tuple(sorted(broker.get_declared_queues()))
    pipeline = broker.client.pipeline(transaction=False)
    for name in names:
        full = f"{broker.namespace}:{name}"
        pipeline.get(f"{full}.count")
        pipeline.zcard(f"{full}.delayed")
        pipeline.zcard(f"{full}.XQ")
        pipeline.lindex(f"{full}.isolated", 0)
        pipeline.lindex(full, 0)
    replies = pipeline.execute()
    found = [(*replies[at : at + 3], replies[at + 3] or replies[at + 4]) for at in range(0, len(replies), 5)]
    for name, (*_, head) in zip(names, found, strict=True):
        pipeline.hget(f"{broker.namespace}:{name}.msgs", head or "")
    return {
        name: QueueState(int(count or 0), delayed, dead, _age_seconds(oldest))
        for name, (count, delayed, dead, _), oldest in zip(names, found, pipeline.execute(), strict=True)
    }


def workers_alive(broker: RedisBroker) -> int:
    """Return the number of worker processes whose heartbeat has not expired. Raises `redis.RedisError`."""
    return len(worker_ids(broker))


def worker_ids(broker: RedisBroker) -> set[str]:
    """Return the ids of the worker processes whose heartbeat has not expired. Raises `redis.RedisError`."""
    seconds, micros = broker.client.time()
    since = seconds * 1000 + micros // 1000 - HEARTBEAT_TIMEOUT_MS
    leases: list[Any] = broker.client.zrangebyscore(f"{broker.namespace}:__heartbeats__", since, "+inf")
    return {lease.partition(b"|")[2].partition(b".")[0].decode() for lease in leases}


def _age_seconds(data: bytes | None) -> float:
    if data is None:
        return 0.0
    try:
        return max(0.0, time.time() - queued_at(data))
    except msgspec.DecodeError:
        return 0.0

"""State of the queues and number of workers, as operators see them."""

import time
from dataclasses import dataclass
from typing import Any

import msgspec

from actors.transport.messages import queued_at
from actors.transport.redis_broker import HEARTBEAT_TIMEOUT_MS, RedisBroker

#: Age of the oldest message above which the workers are too slow, or hang.
LAGGING_SECONDS = 30


@dataclass(frozen=True, slots=True)
class QueueState:
    """Numbers of one queue.

    `depth`: messages that are not acknowledged, including delayed ones. `delayed`: delayed messages. `dead`: dead
    letters that are still in Redis. `oldest_age_seconds`: age of the entry at the head.
    """

    depth: int
    delayed: int
    dead: int
    oldest_age_seconds: float


def depths(broker: RedisBroker, *names: str) -> dict[str, QueueState]:
    """Return the state of these queues, by default of all, in two round trips. Raises `redis.RedisError`."""
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
    """Return the number of worker processes with a heartbeat within the timeout. Raises `redis.RedisError`."""
    return len(worker_ids(broker))


def worker_ids(broker: RedisBroker) -> set[str]:
    """Return the ids of worker processes with a heartbeat within the timeout. Raises `redis.RedisError`."""
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

"""What the queues look like from outside: how much waits, for how long, and who works."""

import time
from dataclasses import dataclass
from typing import Any

import msgspec

from actors.transport.messages import queued_at
from actors.transport.redis_broker import HEARTBEAT_TIMEOUT_MS, RedisBroker

#: Work that has waited this long has workers that do not keep up, or that hang.
LAGGING_SECONDS = 30


@dataclass(frozen=True, slots=True)
class QueueState:
    """Messages of one queue that are still to be done, those among them that are delayed, and those that died.

    `oldest_age_seconds` is of the one at its head.
    """

    depth: int
    delayed: int
    dead: int
    oldest_age_seconds: float


def depths(broker: RedisBroker, *names: str) -> dict[str, QueueState]:
    """The state of these queues, of all when none is named, in two round trips. Raises `redis.RedisError`."""
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
        name: QueueState(int(count or 0), delayed, dead, _age_seconds(head, oldest))
        for name, (count, delayed, dead, head), oldest in zip(names, found, pipeline.execute(), strict=True)
    }


def workers_alive(broker: RedisBroker) -> int:
    """Return the number of worker processes with a heartbeat within the timeout. Raises `redis.RedisError`."""
    return len(worker_ids(broker))


def worker_ids(broker: RedisBroker) -> set[str]:
    """Return the ids of worker processes with a heartbeat within the timeout. Raises `redis.RedisError`."""
    seconds, micros = broker.client.time()
    since = seconds * 1000 + micros // 1000 - HEARTBEAT_TIMEOUT_MS
    leases: list[Any] = broker.client.zrangebyscore(f"{broker.namespace}:__heartbeats__", since, "+inf")
    return {lease.split(b"|")[1].split(b".")[0].decode() for lease in leases}


def _age_seconds(entry_id: bytes | None, data: bytes | None) -> float:
    if entry_id is None or data is None:
        return 0.0
    try:
        return max(0.0, time.time() - queued_at(entry_id.decode(), data))
    except msgspec.DecodeError:
        return 0.0

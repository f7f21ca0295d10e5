"""What the queues look like from outside: how much waits, for how long, and who works."""

import time
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from actors.broker import broker
from actors.transport import HEARTBEAT_TIMEOUT_MS


class Unavailable(Exception):
    """The queue cannot take more now; `retry_after` is the number of seconds to wait before trying again."""

    def __init__(self, reason: str, retry_after: float) -> None:
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class QueueState:
    """Messages of one queue by where they are, and the age of the one at its head."""

    waiting: int
    delayed: int
    leased: int
    dead: int
    oldest_age_seconds: float

    @property
    def depth(self) -> int:
        """Everything that is still to be done."""
        return self.waiting + self.delayed + self.leased


class _Stamp(msgspec.Struct):
    message_timestamp: int


def depths(client: redis.Redis) -> dict[str, QueueState]:
    """The state of every queue, in two round trips. Raises `redis.RedisError`."""
    names = sorted(broker.get_declared_queues())
    pipeline = client.pipeline(transaction=False)
    for name in names:
        full = f"{broker.namespace}:{name}"
        pipeline.llen(full)
        pipeline.llen(f"{full}.suspects")
        pipeline.zcard(f"{full}.delayed")
        pipeline.hlen(f"{full}.msgs")
        pipeline.zcard(f"{full}.XQ")
        pipeline.lindex(full, 0)
    found = pipeline.execute()
    heads = [found[start + 5] for start in range(0, len(found), 6)]
    for name, head in zip(names, heads, strict=True):
        pipeline.hget(f"{broker.namespace}:{name}.msgs", head or "")
    states = {}
    for position, (name, oldest) in enumerate(zip(names, pipeline.execute(), strict=True)):
        listed, suspects, delayed, messages, dead, _ = found[position * 6 : position * 6 + 6]
        waiting = listed + suspects
        leased = max(0, messages - waiting - delayed)
        states[name] = QueueState(waiting, delayed, leased, dead, _age_seconds(oldest))
    return states


def workers_alive(client: redis.Redis) -> int:
    """How many worker processes called within the heartbeat timeout. Raises `redis.RedisError`."""
    seconds, micros = client.time()
    since = seconds * 1000 + micros // 1000 - HEARTBEAT_TIMEOUT_MS
    leases: list[Any] = client.zrangebyscore(f"{broker.namespace}:__heartbeats__", since, "+inf")
    return len({lease.split(b"|")[1].split(b".")[0] for lease in leases})


def _age_seconds(message: bytes | None) -> float:
    if message is None:
        return 0.0
    try:
        stamp = msgspec.json.decode(message, type=_Stamp)
    except msgspec.DecodeError:
        return 0.0
    return max(0.0, time.time() - stamp.message_timestamp / 1000)

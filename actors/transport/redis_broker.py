"""Dramatiq's broker over Redis, with every step that must not be torn apart in one Lua script.

The keys are those of Dramatiq's own Redis broker, save that delayed messages wait in a sorted set in Redis
rather than in a worker's memory, where a restart would strand them.
"""

from typing import Any
from uuid import uuid4

import dramatiq
import redis
from dramatiq.message import Message
from redis.backoff import NoBackoff
from redis.retry import Retry

from actors.transport.batch import current_batch
from actors.transport.consumer import Consumer
from actors.transport.messages import new_id
from actors.transport.scripts import load_queue_scripts

#: A worker's: above the longest blocking call of a consumer, below the time after which its lease is taken away.
SOCKET_TIMEOUT_SECONDS = 5.0
#: For megabytes, which a slow network takes longer to carry than a Redis that is well to answer.
BULK_TIMEOUT_SECONDS = 2.0
#: A consumer that has not called for this long is dead: its leases are recovered.
HEARTBEAT_TIMEOUT_MS = 15_000
#: Every worker recovers once a second. Was there none for so long, Redis was away, or nobody worked.
MAX_RECOVERY_GAP_MS = 5_000
#: A message that was held by this many dying workers is taken for what kills them.
MAX_CRASHES = 3


#: How Redis says that it takes no writes just now: a full disk, a primary that became a replica, replicas that are
#: missing, a script of somebody's that runs. A script's error has these in its middle.
REFUSALS = ("MISCONF ", "READONLY ", "NOREPLICAS ", "BUSY ")


def is_out_of_memory(error: Exception) -> bool:
    """Whether Redis has no memory left for a write; before version 7 it says so of a script in words alone."""
    return isinstance(error, redis.exceptions.OutOfMemoryError) or (
        isinstance(error, redis.ResponseError) and "OOM command not allowed" in str(error)
    )


def is_unavailable(error: Exception) -> bool:
    """Whether Redis does not answer or takes no writes: the same call will succeed later, unchanged."""
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.exceptions.ReadOnlyError):
        return True
    refused = isinstance(error, redis.ResponseError) and any(word in str(error) for word in REFUSALS)
    return refused or is_out_of_memory(error)


class RedisBroker(dramatiq.Broker):
    """Queues on Redis.

    Actors may set `batch`, the most messages of one call, whose arguments then stay JSON, and `concurrency`, the
    most calls at once.
    """

    def __init__(self, middleware: list[dramatiq.Middleware], namespace: str = "eventpulse") -> None:
        super().__init__(middleware)
        self.actor_options |= {"batch", "concurrency"}
        self.namespace = namespace
        self.worker_id = uuid4().hex
        self.queues: set[str] = set()
        #: Overrides the `batch` of every batched actor if it is set.
        self.batch_size: int | None = None
        #: Consumers that could not give back what they leased, because Redis was away.
        self.unreleased_consumers: list[Consumer] = []
        self.client: redis.Redis
        #: For what takes long to send.
        self.bulk_client: redis.Redis
        self.scripts = load_queue_scripts()

    def connect(self, url: str, timeout_seconds: float = SOCKET_TIMEOUT_SECONDS) -> None:
        """Use the Redis of `url`, which must answer each call in time; connects when first used."""
        self.client, self.bulk_client = (
            redis.Redis.from_url(
                url,
                socket_timeout=seconds,
                socket_connect_timeout=timeout_seconds,
                retry=Retry(NoBackoff(), 0),  # a script whose reply was lost has run: its caller knows what to do
            )
            for seconds in (timeout_seconds, max(timeout_seconds, BULK_TIMEOUT_SECONDS))
        )

    def run_script(self, name: str, *arguments: Any, client: redis.Redis | None = None) -> Any:
        """Run a queue script on `client`, by default the broker's, and return its reply. Raises `redis.RedisError`."""
        return self.scripts[name](client or self.client, [self.namespace], arguments)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """A consumer for a queue; `prefetch` is not used: how much is leased at once is the actor's to say."""
        del prefetch
        orphans, self.unreleased_consumers = self.unreleased_consumers, []
        while orphans and orphans[0].release_leases():
            del orphans[0]
        self.unreleased_consumers += orphans
        options = next(actor.options for actor in self.actors.values() if actor.queue_name == queue_name)
        batch = options.get("batch")
        batch_size = batch and (self.batch_size or batch)
        return Consumer(self, queue_name, batch_size, options.get("concurrency", 1), timeout)

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        return self.queues.copy()

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Queue a message, after `delay` ms if given; inside an actor, together with the acknowledgement."""
        self.emit_before("enqueue", message, delay)
        entry = (message.queue_name, new_id(), message.encode(), delay or 0)
        if batch := current_batch():
            batch.outbox.add(*entry)
        else:
            self.run_script("enqueue", *entry)
        self.emit_after("enqueue", message, delay)
        return message

    def recover(self, timeout_ms: int = HEARTBEAT_TIMEOUT_MS) -> tuple[int, int]:
        """Give the work of dead workers to others; returns how many messages run again, and how many were given up."""
        again, dead = self.run_script("recover", timeout_ms, MAX_CRASHES, MAX_RECOVERY_GAP_MS)
        return int(again), int(dead)

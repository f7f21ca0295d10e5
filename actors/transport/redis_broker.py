"""Dramatiq broker on Redis. Every step that must be atomic is one Lua script.

The keys are named as in Dramatiq's own Redis broker. Delayed messages wait in a sorted set in Redis, not in the memory
of a worker, so that a restart does not delay them further.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import dramatiq
import redis
from dramatiq.message import Message
from redis.backoff import NoBackoff
from redis.retry import Retry

from actors.transport.batch import current_batch
from actors.transport.consumer import Consumer
from actors.transport.entry_id import new_id, process_id
from actors.transport.messages import Bundle, encode_message
from actors.transport.scripts import encode_arguments, load_queue_scripts
from eventpulse.redis_keys import KEY_PREFIX

#: Timeout of a call: longer than the longest blocking call of a consumer, shorter than `HEARTBEAT_TIMEOUT_MS`.
SOCKET_TIMEOUT_SECONDS = 5.0
#: Minimum timeout of large commands, which take longer to send on a slow network.
BULK_TIMEOUT_SECONDS = 2.0
#: Time without a heartbeat after which a consumer is expired and its leases are recovered.
HEARTBEAT_TIMEOUT_MS = 15_000
#: Maximum time between two recoveries while Redis is available: every worker recovers leases once a second. A longer
#: gap means that Redis was unavailable; then no lease is recovered for `HEARTBEAT_TIMEOUT_MS`.
MAX_RECOVERY_GAP_MS = 5_000
#: Crash count at which a message is dead-lettered.
MAX_CRASHES = 3
#: Texts of errors with which Redis temporarily rejects writes: a snapshot failed, the server is a read-only replica,
#: too few replicas are connected, a script is running. An error from a script has the text in the middle.
WRITE_REJECTIONS = ("MISCONF ", "READONLY ", "NOREPLICAS ", "BUSY ")


class AcceptLimits(NamedTuple):
    """Limits at which `accept.lua` rejects messages.

    `backlog`: number of messages in all `backlog_queues`. `memory_percent`: used memory in per cent of maxmemory.
    """

    backlog_queues: Sequence[str]
    backlog: int
    memory_percent: int


def is_out_of_memory(error: Exception) -> bool:
    """Return whether Redis rejected a write for lack of memory. Before Redis 7, only the error text shows the cause."""
    return isinstance(error, redis.exceptions.OutOfMemoryError) or (
        isinstance(error, redis.ResponseError) and "OOM command not allowed" in str(error)
    )


def is_unavailable(error: Exception) -> bool:
    """Return whether an error means that Redis is unavailable or rejects writes, so that a later call can succeed."""
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | redis.exceptions.ReadOnlyError):
        return True
    rejected = isinstance(error, redis.ResponseError) and any(word in str(error) for word in WRITE_REJECTIONS)
    return rejected or is_out_of_memory(error)


def _lease_options(actor: "dramatiq.Actor[Any, Any]") -> tuple[int | None, int]:
    return actor.options.get("batch"), actor.options.get("concurrency", 1)


class RedisBroker(dramatiq.Broker):
    """Broker with queues in Redis.

    Actors may set two options. `batch` is the maximum number of messages in one call; with this option, the arguments
    stay JSON (`msgspec.Raw`). `concurrency` is the maximum number of calls at the same time in one worker process.
    """

    namespace = KEY_PREFIX

    def __init__(self, middleware: list[dramatiq.Middleware]) -> None:
        super().__init__(middleware)
        self.actor_options |= {"batch", "concurrency"}
        self.queues: set[str] = set()
        #: Value that replaces the option `batch` of the actors that have this option; None keeps their values.
        self.batch_size: int | None = None
        #: Closed consumers that could not release their leases because Redis was unavailable.
        self.unreleased_consumers: list[Consumer] = []
        self.client: redis.Redis
        #: Client with a timeout of at least `BULK_TIMEOUT_SECONDS`, for large commands.
        self.bulk_client: redis.Redis
        self.scripts = load_queue_scripts()

    def connect(self, url: str, timeout_seconds: float = SOCKET_TIMEOUT_SECONDS) -> None:
        """Create the clients for the Redis at `url`, with a timeout for each call. Opens no connection."""
        self.client, self.bulk_client = (
            redis.Redis.from_url(
                url,
                socket_timeout=seconds,
                socket_connect_timeout=timeout_seconds,
                retry=Retry(NoBackoff(), 0),  # no automatic retry: if a reply is lost, the script may have run
            )
            for seconds in (timeout_seconds, max(timeout_seconds, BULK_TIMEOUT_SECONDS))
        )

    def run_script(self, name: str, *arguments: Any) -> Any:
        """Run a queue script and return its reply. Raises `redis.RedisError`."""
        return self.scripts[name](self.client, [self.namespace], [encode_arguments(arguments)])

    def accept(self, queue_name: str, bundles: Iterable[Bundle], limits: AcceptLimits, *, is_bulk: bool = False) -> int:
        """Enqueue bundles, all or none; return the reply of `accept.lua`. Raises `redis.RedisError`."""
        client = self.bulk_client if is_bulk else self.client
        arguments = encode_arguments((queue_name, *limits))
        return int(self.scripts["accept"](client, [self.namespace], [arguments, *chain.from_iterable(bundles)]))

    @property
    def worker_id(self) -> str:
        """Id of this process in the names of its leases."""
        return process_id()

    @property
    def total_concurrency(self) -> int:
        """Maximum number of calls at the same time in one worker process: the number of threads of the worker."""
        return sum(_lease_options(actor)[1] for actor in self.actors.values())

    def declare_actor(self, actor: "dramatiq.Actor[Any, Any]") -> None:
        """Declare an actor. Raises `ValueError` if another actor of its queue has another `batch` or `concurrency`.

        A queue has one consumer in each worker, which leases all messages of the queue with the same options.
        """
        for other in self.actors.values():
            if other.queue_name == actor.queue_name and _lease_options(other) != _lease_options(actor):
                raise ValueError(
                    f"actors {other.actor_name!r} and {actor.actor_name!r} of queue {actor.queue_name!r} "
                    "must have the same batch and concurrency"
                )
        super().declare_actor(actor)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:  # noqa: ARG002
        """Return a consumer of a queue. Raises `ValueError` if the queue has no actor.

        `prefetch` is ignored: the options of the actor limit the number of leased messages.
        """
        actor = next((actor for actor in self.actors.values() if actor.queue_name == queue_name), None)
        if actor is None:
            raise ValueError(f"queue {queue_name!r} has no actor")
        self._release_closed_consumers()
        batch, concurrency = _lease_options(actor)
        return Consumer(self, queue_name, batch and (self.batch_size or batch), concurrency, timeout)

    def _release_closed_consumers(self) -> None:
        consumers, self.unreleased_consumers = self.unreleased_consumers, []
        while consumers and consumers[0].release_leases():
            del consumers[0]
        self.unreleased_consumers += consumers

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def get_declared_queues(self) -> set[str]:
        return self.queues.copy()

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Enqueue a message that is due in `delay` ms; inside an actor, add the message to the outbox.

        Raises `redis.RedisError`.
        """
        self.emit_before("enqueue", message, delay)
        entry = (message.queue_name, new_id(), encode_message(message, delay or 0), delay or 0)
        if batch := current_batch():
            batch.outbox.add(*entry)
        else:
            self.run_script("enqueue", *entry)
        self.emit_after("enqueue", message, delay)
        return message

    def recover(self, timeout_ms: int = HEARTBEAT_TIMEOUT_MS) -> tuple[int, int]:
        """Requeue or dead-letter the messages of expired consumers.

        Return the number of requeued messages and the number of dead-lettered messages. Raises `redis.RedisError`.
        """
        requeued, dead = self.run_script("recover", timeout_ms, MAX_CRASHES, MAX_RECOVERY_GAP_MS)
        return int(requeued), int(dead)

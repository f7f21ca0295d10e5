"""Broker for tests that declare their own actors, and helpers for messages that contain a number."""

from collections.abc import Callable

import dramatiq
import msgspec
from dramatiq.middleware import CurrentMessage

from actors.log_context import LogContext
from actors.transport.batch import Batch
from actors.transport.consumer import Consumer
from actors.transport.messages import Bundle, make_bundles, make_records
from actors.transport.middleware import BatchRetries, DiscardOutboxOnFailure, ShutdownSignal
from actors.transport.redis_broker import AcceptLimits, RedisBroker
from support.waiting import until

StartWorker = Callable[..., dramatiq.Worker]
UNLIMITED = AcceptLimits((), backlog=1, memory_percent=100)


def make_broker(url: str, max_retries: int = 2) -> RedisBroker:
    """Return a connected broker with the middleware of production; retries are delayed by a few milliseconds."""
    middleware = [
        ShutdownSignal(),
        LogContext(),
        CurrentMessage(),
        BatchRetries(max_retries=max_retries, min_backoff=1, max_backoff=5),
        DiscardOutboxOnFailure(),
    ]
    broker = RedisBroker(middleware)
    broker.connect(url)
    return broker


def accept(broker: RedisBroker, queue_name: str, *bundles: Bundle) -> int:
    """Enqueue bundles as ingest does, without limits; return the number of enqueued messages."""
    return broker.accept(queue_name, bundles, UNLIMITED)


def enqueue(broker: RedisBroker, actor_name: str, *arguments: bytes, to: str = "", batch_size: int = 250) -> None:
    """Enqueue one message for each argument, in bundles of at most `batch_size` messages.

    `to` is the queue, by default the queue with the name of the actor.
    """
    records = make_records(arguments, {"request_id": "the-request"})
    accept(broker, to or actor_name, *make_bundles(actor_name, records, batch_size))


def enqueue_numbers(broker: RedisBroker, actor_name: str, count: int) -> None:
    """Enqueue messages with the numbers from 0 to `count - 1`, each in a separate entry."""
    enqueue(broker, actor_name, *number_arguments(*range(count)), batch_size=1)


def number_of(argument: msgspec.Raw) -> int:
    """Return the number in an argument of `number_arguments`."""
    return int(msgspec.json.decode(argument)["n"])


def queue_is_empty(broker: RedisBroker, *queue_names: str) -> bool:
    """Return whether all messages of these queues are settled."""
    return not any(broker.client.exists(f"{broker.namespace}:{name}.msgs") for name in queue_names)


def number_arguments(*values: int) -> list[bytes]:
    """Return a JSON argument for each of these numbers."""
    return [b'{"n":%d}' % value for value in values]


def declare_stage(broker: RedisBroker, fails_for: int | None = None) -> list[list[int]]:
    """Declare the actor `stage`, which fails for the number `fails_for`.

    Return a list to which each call of the actor appends the list of its numbers.
    """
    calls: list[list[int]] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100)
    def stage(*arguments: msgspec.Raw) -> None:
        values = [number_of(argument) for argument in arguments]
        calls.append(values)
        if fails_for in values:
            raise ValueError("this number fails")

    return calls


def lease_next(consumer: Consumer) -> Batch:
    """Return the next batch of a consumer. Fetch again after a fetch without a batch, which may have split a bundle."""
    batch = until(lambda: next(consumer))
    assert isinstance(batch, Batch)
    return batch


def depth(broker: RedisBroker, queue_name: str) -> int:
    """Return the number of messages in a queue."""
    return int(broker.client.get(f"{broker.namespace}:{queue_name}.count") or 0)

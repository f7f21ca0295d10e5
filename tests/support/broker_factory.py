"""A broker whose actors a test declares itself; its messages carry numbers."""

from collections.abc import Callable

import dramatiq
import msgspec
from dramatiq.middleware import CurrentMessage

from actors.log_context import LogContext
from actors.transport.messages import Bundle, make_bundles, make_records
from actors.transport.middleware import BatchRetries, DiscardOutboxOnFailure, ShutdownSignal
from actors.transport.redis_broker import AcceptLimits, RedisBroker

StartWorker = Callable[..., dramatiq.Worker]
UNLIMITED = AcceptLimits((), backlog=1, memory_percent=100)


def make_broker(url: str, max_retries: int = 2) -> RedisBroker:
    """Return a broker with the middleware of the product, and retries after a few milliseconds."""
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
    """Enqueue bundles as ingest does, without limits; return the number of messages."""
    return broker.accept(queue_name, bundles, UNLIMITED)


def enqueue(broker: RedisBroker, actor_name: str, *arguments: bytes, to: str = "", batch_size: int = 250) -> None:
    """Enqueue one message for each argument, in bundles of at most `batch_size`; into the queue `to` if it is given."""
    records = make_records(arguments, {"request_id": "the-request"})
    accept(broker, to or actor_name, *make_bundles(actor_name, records, batch_size))


def enqueue_numbers(broker: RedisBroker, actor_name: str, count: int) -> None:
    """Enqueue `count` messages with the numbers from 0, each as an entry of its own."""
    enqueue(broker, actor_name, *[b'{"n":%d}' % n for n in range(count)], batch_size=1)


def number_of(argument: msgspec.Raw) -> int:
    """Return the number in an argument that `enqueue_numbers` made."""
    return int(msgspec.json.decode(argument)["n"])


def queue_is_empty(broker: RedisBroker, *queue_names: str) -> bool:
    """Return whether every message of these queues is settled."""
    return not any(broker.client.exists(f"{broker.namespace}:{name}.msgs") for name in queue_names)

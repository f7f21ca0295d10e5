"""A broker with actors of the test's own: stages of numbers."""

from collections.abc import Callable
from itertools import chain

import dramatiq
import msgspec
from dramatiq.middleware import CurrentMessage

from actors.log_context import LogContext
from actors.transport.messages import bundles, line
from actors.transport.middleware import BatchRetries, DiscardOutboxOnFailure, ShutdownSignal
from actors.transport.redis_broker import RedisBroker

StartWorker = Callable[..., dramatiq.Worker]


def stages(url: str, max_retries: int = 2) -> RedisBroker:
    """A broker like the product's, that retries at once."""
    middleware = [
        ShutdownSignal(),
        LogContext(),
        CurrentMessage(),
        BatchRetries(max_retries=max_retries, min_backoff=1, max_backoff=5),
        DiscardOutboxOnFailure(),
    ]
    made = RedisBroker(middleware)
    made.connect(url)
    return made


def numbers(broker: RedisBroker, actor: str, count: int) -> None:
    """Queue `count` messages, each with its number and each an entry of its own."""
    queue(broker, actor, *[b'{"n":%d}' % n for n in range(count)], largest=1)


def queue(broker: RedisBroker, actor: str, *events: bytes, to: str = "", largest: int = 250) -> None:
    """Queue events for an actor, in bundles of at most `largest`."""
    entries = bundles(actor, [line(event, "the-request") for event in events], largest)
    broker.run_script("accept", to or actor, 10**6, 100, *chain(*entries))


def number_of(event: msgspec.Raw) -> int:
    return int(msgspec.json.decode(event)["n"])


def queue_is_empty(broker: RedisBroker, *queues: str) -> bool:
    return not any(broker.client.exists(f"{broker.namespace}:{queue}.msgs") for queue in queues)

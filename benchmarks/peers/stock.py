"""Stock Dramatiq: its Redis broker and default middleware, one message and one INSERT per event."""

import json
import os
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from servers import Servers

from peers import row

WORKER = ["dramatiq", "peers.stock:connect", "--processes", "1", "--threads", "8"]
# With the default prefetch of 16, the consumer sleeps for milliseconds whenever the 8 threads are busy.
SETTINGS = {"dramatiq_queue_prefetch": "200"}


def store(event: dict[str, Any]) -> None:
    row.store(event)


def declare(broker: RedisBroker) -> dramatiq.Actor[..., None]:
    """Declare and return the actor on this broker."""
    actor: dramatiq.Actor[..., None] = dramatiq.actor(broker=broker)(store)
    return actor


def connect() -> None:
    """Set the global broker and declare the actor on it, for the Dramatiq command line."""
    broker = RedisBroker(url=os.environ["REDIS_URL"])
    dramatiq.set_broker(broker)
    declare(broker)


def fill(servers: Servers, events: Sequence[bytes]) -> None:
    """Queue the events one by one; Dramatiq has no batches."""
    broker = RedisBroker(url=servers.redis_url)
    actor = declare(broker)
    for event in events:
        actor.send(json.loads(event))
    broker.client.close()

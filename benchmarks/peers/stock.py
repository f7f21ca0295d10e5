"""Dramatiq as it comes: its own Redis broker, its default middleware, one message and one INSERT an event."""

import json
import os
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from servers import Servers

from peers import row

WORKER = ["dramatiq", "peers.stock:connect", "--processes", "1", "--threads", "8"]
# By default the consumer fetches 16 messages, and sleeps for milliseconds whenever 8 threads cannot take them.
SETTINGS = {"dramatiq_queue_prefetch": "200"}


def store(event: dict[str, Any]) -> None:
    row.store(event)


def declare(broker: RedisBroker) -> dramatiq.Actor[..., None]:
    """The actor, on that broker."""
    actor: dramatiq.Actor[..., None] = dramatiq.actor(broker=broker)(store)
    return actor


def connect() -> None:
    """What the command line of Dramatiq calls for a broker."""
    broker = RedisBroker(url=os.environ["REDIS_URL"])
    dramatiq.set_broker(broker)
    declare(broker)


def fill(servers: Servers, events: Sequence[bytes]) -> None:
    """Queue the events one by one: the only way that Dramatiq has."""
    broker = RedisBroker(url=servers.redis_url)
    actor = declare(broker)
    for event in events:
        actor.send(json.loads(event))
    broker.client.close()

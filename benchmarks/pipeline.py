"""Stages of the pipeline in one process, for benchmarks: prepared events, accepting, and draining of a queue."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import dramatiq
import msgspec
from system import RULES
from uuid_utils.compat import uuid7

from actors.broker import broker
from actors.pipeline import ingest
from actors.rule_state import rulebook
from models import database
from models.rule import Rule

BATCH = 100


def make(count: int, start: datetime | None = None, step: timedelta = timedelta()) -> list[bytes]:
    """Return `count` events as the API queues them: JSON of 275 bytes, with ten types and twenty sources.

    The first event occurs at `start`, by default now, and each other event `step` later than the event before.
    """
    first = start or datetime.now(UTC)
    return [
        msgspec.json.encode(
            {
                "event_id": uuid7(),
                "event_type": f"bench.step-{number % 10}",
                "source": f"bench-{number // 10 % 20:02d}",
                "timestamp": first + number * step,
                "payload": {"order": random.randrange(10**6), "amount": 12.5, "currency": "EUR"},
                "metadata": {"region": "eu-west"},
                "received_at": datetime.now(UTC),
            }
        )
        for number in range(count)
    ]


def rate(count: int, work: Callable[[], None]) -> float:
    """Run `work`, which processes `count` events, and return the events per second."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def drain(queue_name: str) -> None:
    """Run a worker on one queue until the queue is empty."""
    worker = dramatiq.Worker(broker, queues={queue_name}, worker_threads=2, worker_timeout=100)
    worker.start()
    while broker.client.exists(f"{broker.namespace}:{queue_name}.msgs"):
        time.sleep(0.002)
    worker.stop()


def accept(events: list[bytes]) -> None:
    for start in range(0, len(events), BATCH):
        ingest.accept(events[start : start + BATCH], None)


def write_rules() -> None:
    with database.connection():
        for rule in RULES:
            Rule.add(allowed_lateness_seconds=3600, **rule)
    rulebook.publish()

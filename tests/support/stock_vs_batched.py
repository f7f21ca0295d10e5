"""Two ways to process the same events: one message per call as in stock Dramatiq, or bundles and batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import dramatiq
import pytest
import redis

from actors import runtime
from actors.broker import broker as product_broker
from actors.recovery import dead_letters
from actors.rule_state import rulebook
from actors.transport.entry_id import EntryId
from actors.transport.group_commit import GroupCommit
from models.anomaly import Anomaly
from models.database import connection, database
from support.pipeline_factory import accept, anomalies, idle
from support.waiting import until

#: Events of one request, and whether these events are processed before the next request.
Request = tuple[list[bytes], bool]


class Outcome(NamedTuple):
    """Results of a run. `dead` contains the queue, the event id and the attempts of each dead letter."""

    rows: list[str]
    windows: dict[bytes, Any]
    anomalies: list[Anomaly]
    dead: list[tuple[str, str, int]]


class CallRecorder(dramatiq.Middleware):
    """Middleware that records the number of events of each call, and the size of each queue entry."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.entry_sizes: list[int] = []

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        self.sizes.append(len(message.args))
        self.entry_sizes += [EntryId.parse(entry_id).size for entry_id in message.ids]


def run_single(client: redis.Redis, requests: Sequence[Request], concurrency: int = 2) -> Outcome:
    """Process all events as with EVENTPULSE_BATCH=1, one event per entry and per call; return the outcome."""
    clear_all_but_rules(client)
    with pytest.MonkeyPatch.context() as patch, batch_size(1):
        for stage in ("persist", "evaluate"):
            patch.setitem(product_broker.get_actor(stage).options, "concurrency", concurrency)
        accept(*[event for events, _ in requests for event in events])
        with running_worker(client) as calls:
            pass
    assert set(calls.sizes) == set(calls.entry_sizes) == {1}
    return read_outcome(client)


def run_batched(client: redis.Redis, requests: Sequence[Request]) -> Outcome:
    """Process the events in bundles and batches, and return the outcome; at least one call must have several events."""
    clear_all_but_rules(client)
    with running_worker(client) as calls:
        for events, alone in requests:
            accept(*events)
            if alone:
                until(lambda: idle(client))
    assert max(calls.sizes) > 1
    return read_outcome(client)


@contextmanager
def batch_size(size: int) -> Iterator[None]:
    """Set the batch size, as EVENTPULSE_BATCH does, for ingest and for workers that start during the block."""
    bound, before = runtime.current(), product_broker.batch_size
    product_broker.batch_size = size
    commit = GroupCommit(product_broker, runtime.INGEST_QUEUE, bound.group_commit.marks, size)
    runtime.bind(replace(bound, group_commit=commit))
    try:
        yield
    finally:
        product_broker.batch_size = before
        runtime.bind(bound)


@contextmanager
def running_worker(client: redis.Redis) -> Iterator[CallRecorder]:
    """Run a worker and record its calls; at the end of the block, wait until all messages are settled."""
    calls = CallRecorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product_broker, "middleware", [*product_broker.middleware, calls])
        worker = dramatiq.Worker(product_broker, worker_threads=8, worker_timeout=50)
        worker.start()
        try:
            yield calls
            until(lambda: idle(client), 30)
        finally:
            worker.stop(5_000)


def clear_all_but_rules(client: redis.Redis) -> None:
    client.flushdb()
    with connection():
        database.execute_sql("TRUNCATE events, pending_evaluations, anomalies, deliveries, dead_letters")
    rulebook.publish()


def read_outcome(client: redis.Redis) -> Outcome:
    dead_letters.reconcile()
    dead = sorted((each.queue_name, str(each.event_id), each.attempts) for each in dead_letters.list_(100))
    with connection():
        rows = [row for (row,) in database.execute_sql("SELECT events::text FROM events ORDER BY event_id")]
    windows = {key: read_key(client, key) for key in client.keys("eventpulse:window:*")}
    return Outcome(rows, windows, anomalies(), dead)


def read_key(client: redis.Redis, key: bytes) -> Any:
    """Return the value of a key that is a sorted set, a hash or a set."""
    match client.type(key):
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"hash":
            return client.hgetall(key)
    return client.smembers(key)

"""The same events by two paths: through Dramatiq as it comes, and in bundles and micro-batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import dramatiq
import msgspec
import pytest
import redis

from actors.broker import broker as product_broker
from actors.recovery import dead_letters
from actors.rule_state import rulebook
from actors.transport.messages import event_of, is_bundle, line
from models.anomaly import Anomaly
from models.database import connection, database
from support.pipeline_factory import accept, anomalies, idle
from support.waiting import until

#: Events that come together, and whether they are worked off before the next come.
Request = tuple[list[bytes], bool]


class Outcome(NamedTuple):
    """What became of events. `dead`: of each dead letter its queue, event and attempts."""

    rows: list[str]
    windows: dict[bytes, Any]
    anomalies: list[Anomaly]
    dead: list[tuple[str, str, int]]


class Calls(dramatiq.Middleware):
    """Notes how many events each call has, and the entries of the queue that they come from."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.entries: list[str] = []

    def before_process_message(self, broker: dramatiq.Broker, message: Any) -> None:
        self.sizes.append(len(message.args))
        self.entries += message.ids


def stock(client: redis.Redis, requests: Sequence[Request], concurrency: int = 2) -> Outcome:
    """Each event is an ordinary message, sent by itself at both stages, and each call has one."""
    empty(client)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("actors.pipeline.persist.bundles", send_each)
        patch.setattr(product_broker, "batch_size", 1)
        for stage in ("persist", "evaluate"):
            options = product_broker.get_actor(stage).options
            patch.setitem(options, "concurrency", concurrency)
        send_each("persist", [line(each, None) for events, _ in requests for each in events])
        with at_work(client) as calls:
            pass
    assert set(calls.sizes) == {1}
    assert not any(map(is_bundle, calls.entries))
    return outcome(client)


def batched(client: redis.Redis, requests: Sequence[Request]) -> Outcome:
    """Requests come in bundles, and calls have what has come by then; one of several events must be among them."""
    empty(client)
    with at_work(client) as calls:
        for events, alone in requests:
            accept(*events)
            if alone:
                until(lambda: idle(client))
    assert max(calls.sizes) > 1
    return outcome(client)


def send_each(actor_name: str, lines: Sequence[bytes], batch: int = 1) -> Sequence[bytes]:
    """Send each event by itself, in the place of `bundles`; returns those that are left to be queued: none."""
    for each in lines:
        product_broker.get_actor(actor_name).send(msgspec.json.decode(event_of(each)))
    return ()


@contextmanager
def at_work(client: redis.Redis) -> Iterator[Calls]:
    """A worker and its calls; when the block ends, everything has been settled."""
    calls = Calls()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product_broker, "middleware", [*product_broker.middleware, calls])
        worker = dramatiq.Worker(product_broker, worker_threads=8, worker_timeout=50)
        worker.start()
        try:
            yield calls
            until(lambda: idle(client), 30)
        finally:
            worker.stop(5_000)


def empty(client: redis.Redis) -> None:
    """Forget everything but the rules."""
    client.flushdb()
    with connection():
        database.execute_sql("TRUNCATE events, pending_evaluations, anomalies, deliveries, dead_letters")
    rulebook.publish()


def outcome(client: redis.Redis) -> Outcome:
    dead_letters.reconcile()
    dead = sorted((each.queue_name, str(each.event_id), each.attempts) for each in dead_letters.list_(100))
    with connection():
        rows = [row for (row,) in database.execute_sql("SELECT events::text FROM events ORDER BY event_id")]
    windows = {key: contents(client, key) for key in client.keys("eventpulse:window:*")}
    return Outcome(rows, windows, anomalies(), dead)


def contents(client: redis.Redis, key: bytes) -> Any:
    match client.type(key):
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"hash":
            return client.hgetall(key)
    return client.smembers(key)

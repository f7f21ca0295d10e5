"""Tests of a full Redis: ingest rejects events, and the workers continue and free memory."""

from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
import redis
from support.pipeline_factory import accept, anomalies, event, idle, rule
from support.waiting import until

from actors import runtime
from actors.broker import broker
from actors.transport.errors import QueueUnavailable
from eventpulse.local import embedded
from eventpulse.settings import ConnectedSettings
from models.database import connection
from models.event import Event


@pytest.fixture
def client(tmp_path: Path, empty_database: str) -> Iterator[redis.Redis]:
    """Start a Redis server for the test, connect the actors to it, and return a client. No worker runs yet."""
    server = embedded.start_redis(tmp_path / "redis")
    runtime.setup(ConnectedSettings(redis_url=server.url, database_url=empty_database), name="tests")
    with redis.Redis.from_url(server.url) as client:
        yield client
    broker.client.close()
    server.stop()


def fill(client: redis.Redis) -> None:
    """Make Redis full by setting `maxmemory` below the used memory."""
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 100_000)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("more", 1)


def heartbeats(client: redis.Redis) -> dict[bytes, float]:
    """Return the time of the last heartbeat of each lease."""
    return dict(client.zrange("eventpulse:__heartbeats__", 0, -1, withscores=True))


def test_workers_empty_a_full_redis_and_ingest_accepts_events_again(client: redis.Redis) -> None:
    """The workers of stock Dramatiq stop in this case, because a full Redis rejects the writes of their fetch."""
    rule()
    for _ in range(20):
        accept(*[event(payload={"text": "x" * 500}) for _ in range(100)])
    accept(event(event_type="odd"), event(payload={"text": "\0"}))
    fill(client)
    with pytest.raises(QueueUnavailable, match="memory"):
        accept(event())
    worker = dramatiq.Worker(broker, worker_threads=8, worker_timeout=50)
    worker.start()
    try:
        until(lambda: idle(client), 30)

        def is_accepted() -> bool:
            try:
                accept(event())
            except QueueUnavailable:
                return False
            return True

        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used * 2)  # half of the limit is in use: ingest must accept events again
        until(is_accepted)
        until(lambda: idle(client))
    finally:
        worker.stop(5_000)
    with connection():
        assert Event.select().count() == 2_002
    assert len(anomalies()) == 1
    assert client.hvals("eventpulse:persist.XQ.why")[0].startswith(b"DataError: unsupported Unicode")


def test_an_idle_worker_keeps_its_consumers_in_a_full_redis(client: redis.Redis) -> None:
    """A full Redis rejects the command with which a consumer waits for messages, because the command can write."""
    worker = dramatiq.Worker(broker, worker_threads=8, worker_timeout=50)
    fill(client)
    worker.start()
    try:
        first = until(lambda: len(found := heartbeats(client)) == len(broker.get_declared_queues()) and found)
        until(lambda: all(at > first.get(lease, 0) for lease, at in heartbeats(client).items()))
        assert heartbeats(client).keys() == first.keys(), "a consumer was replaced"
    finally:
        worker.stop(5_000)


def test_a_message_is_dead_lettered_in_a_full_redis(client: redis.Redis) -> None:
    accept(event(payload={"text": "\0"}))
    fill(client)
    worker = dramatiq.Worker(broker, worker_threads=8, worker_timeout=50)
    worker.start()
    try:
        until(lambda: client.zcard("eventpulse:persist.XQ"))
    finally:
        worker.stop(5_000)


def test_leases_are_released_and_recovered_in_a_full_redis(client: redis.Redis) -> None:
    accept(event())
    consumer = broker.consume("persist")
    assert next(consumer) is not None
    fill(client)
    consumer.close()
    assert client.llen("eventpulse:persist") == 1
    assert next(broker.consume("persist")) is not None
    until(lambda: broker.recover(timeout_ms=0) == (1, 0))


def test_ingest_rejects_events_if_redis_evicts_keys(client: redis.Redis) -> None:
    accept(event())
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.delete("eventpulse:memory")
    with pytest.raises(QueueUnavailable, match="evict"):
        accept(event())

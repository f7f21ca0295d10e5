"""Redis is full: nothing more is taken in, the workers go on, and room is made without anybody's help."""

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
    """A Redis of our own with the pipeline pointed at it; no worker runs yet."""
    server = embedded.start_redis(tmp_path / "redis")
    runtime.setup(ConnectedSettings(redis_url=server.url, database_url=empty_database), name="tests")
    with redis.Redis.from_url(server.url) as client:
        yield client
    broker.client.close()
    server.stop()


def fill(client: redis.Redis) -> None:
    """Set the most memory below what is used by now."""
    client.config_set("maxmemory", client.info("memory")["used_memory"] - 100_000)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        client.set("more", 1)


def beats(client: redis.Redis) -> dict[bytes, float]:
    """When each lease was last heard of."""
    return dict(client.zrange("eventpulse:__heartbeats__", 0, -1, withscores=True))


def test_a_full_redis_is_emptied_by_its_workers_and_takes_events_again(client: redis.Redis) -> None:
    """Stock Dramatiq's workers write to fetch: a full Redis stops them, and stays full."""
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

        def taken() -> bool:
            try:
                accept(event())
            except QueueUnavailable:
                return False
            return True

        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used * 2)  # what is used by Redis itself is no backlog
        until(taken)
        until(lambda: idle(client))
    finally:
        worker.stop(5_000)
    with connection():
        assert Event.select().count() == 2_002
    assert len(anomalies()) == 1
    assert client.hvals("eventpulse:persist.XQ.why")[0].startswith(b"DataError: unsupported Unicode")


def test_a_worker_with_nothing_to_do_stays_well_in_a_full_redis(client: redis.Redis) -> None:
    """To wait for messages is a write as well, to Redis."""
    worker = dramatiq.Worker(broker, worker_threads=8, worker_timeout=50)
    fill(client)
    worker.start()
    try:
        first = until(lambda: len(found := beats(client)) == 3 and found)
        until(lambda: all(at > first.get(lease, 0) for lease, at in beats(client).items()))
        assert beats(client).keys() == first.keys(), "a consumer was replaced"
    finally:
        worker.stop(5_000)


def test_what_cannot_be_stored_dies_in_a_full_redis(client: redis.Redis) -> None:
    accept(event(payload={"text": "\0"}))
    fill(client)
    worker = dramatiq.Worker(broker, worker_threads=8, worker_timeout=50)
    worker.start()
    try:
        until(lambda: client.zcard("eventpulse:persist.XQ"))
    finally:
        worker.stop(5_000)


def test_what_is_held_in_a_full_redis_is_given_back_and_recovered(client: redis.Redis) -> None:
    accept(event())
    consumer = broker.consume("persist")
    assert next(consumer) is not None
    fill(client)
    consumer.close()
    assert client.llen("eventpulse:persist") == 1
    assert next(broker.consume("persist")) is not None
    until(lambda: broker.recover(timeout_ms=0) == (1, 0))


def test_an_evicting_redis_is_given_no_events(client: redis.Redis) -> None:
    accept(event())
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.delete("eventpulse:memory")
    with pytest.raises(QueueUnavailable, match="evict"):
        accept(event())

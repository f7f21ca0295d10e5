"""Tests of a Redis that rejects writes: workers wait as in an outage, and use no retries."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.errors import ConnectionClosed
from support.pipeline_factory import accept, event, idle, rule
from support.waiting import until

from actors import runtime
from actors.broker import broker
from actors.pipeline import evaluate
from actors.transport.errors import QueueUnavailable
from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon
from eventpulse.settings import ConnectedSettings
from models.database import connection
from models.event import Event


@pytest.fixture
def server(tmp_path: Path, empty_database: str) -> Iterator[Daemon]:
    """Start a Redis server for the test, and connect the actors to it."""
    server = embedded.start_redis(tmp_path / "redis")
    runtime.setup(ConnectedSettings(redis_url=server.url, database_url=empty_database), name="tests")
    yield server
    broker.client.close()
    server.stop()


def make_read_only(client: redis.Redis, data: Path) -> Callable[[], object]:
    """Make Redis read-only, like a former primary after a failover; return a function that undoes the change."""
    client.replicaof("127.0.0.1", 1)
    return lambda: client.replicaof("NO", "ONE")


def let_a_snapshot_fail(client: redis.Redis, data: Path) -> Callable[[], object]:
    """Let a snapshot fail, as on a full disk, so that Redis rejects writes; return a function that allows writes."""
    (data / "taken.rdb").mkdir()
    client.config_set("dbfilename", "taken.rdb")
    client.config_set("save", "3600 1")
    client.bgsave()
    until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    return lambda: client.config_set("save", "")


def require_a_replica(client: redis.Redis, data: Path) -> Callable[[], object]:
    """Require a replica that does not exist; return a function that undoes the change."""
    client.config_set("min-replicas-to-write", 1)
    return lambda: client.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize("reject_writes", [make_read_only, let_a_snapshot_fail, require_a_replica])
def test_workers_wait_while_redis_rejects_writes(
    reject_writes: Callable[[redis.Redis, Path], Callable[[], object]],
    server: Daemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = redis.Redis.from_url(server.url)
    decide = evaluate.evaluate_batch
    undo: list[Callable[[], object]] = []
    rejections: list[Exception] = []
    sizes: set[int] = set()

    def reject_then_evaluate(*arguments: Any) -> object:
        sizes.add(len(arguments[0]))
        if not undo:
            undo.append(reject_writes(client, tmp_path / "redis"))
        try:
            return decide(*arguments)
        except redis.RedisError as error:
            rejections.append(error)
            raise

    monkeypatch.setattr(evaluate, "evaluate_batch", reject_then_evaluate)
    for stage in ("persist", "evaluate"):
        monkeypatch.setitem(broker.actors[stage].options, "max_retries", 0)
    rule()
    accept(*[event() for _ in range(20)])
    worker = dramatiq.Worker(broker, worker_threads=8, worker_timeout=50)
    worker.start()
    try:
        until(lambda: rejections)
        with pytest.raises(QueueUnavailable):
            accept(event())
        undo[0]()
        until(lambda: idle(client), 30)
    finally:
        worker.stop(5_000)
    assert not client.keys("eventpulse:*.XQ")
    assert sizes == {20}, "the batch was split"
    with connection():
        assert Event.select().count() == 20
    client.close()


@pytest.mark.usefixtures("server")
def test_consumers_without_leases_are_not_kept_for_release(tmp_path: Path) -> None:
    """Dramatiq replaces a consumer every 3 s while writes fail, so `unreleased_consumers` would grow without limit."""
    before = len(broker.unreleased_consumers)
    undo = require_a_replica(broker.client, tmp_path)
    for _ in range(5):
        consumer = broker.consume("persist")
        with pytest.raises(ConnectionClosed):
            next(consumer)
        consumer.close()
    undo()
    assert len(broker.unreleased_consumers) == before

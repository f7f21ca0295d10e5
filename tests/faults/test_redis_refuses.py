"""Redis answers, and takes no writes: the work waits as if it were away, and costs no retries."""

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
    """A Redis of our own with the pipeline pointed at it."""
    server = embedded.start_redis(tmp_path / "redis")
    runtime.setup(ConnectedSettings(redis_url=server.url, database_url=empty_database), name="tests")
    yield server
    broker.client.close()
    server.stop()


def become_a_replica(client: redis.Redis, data: Path) -> Callable[[], object]:
    """As in a failover: what was the primary is read-only."""
    client.replicaof("127.0.0.1", 1)
    return lambda: client.replicaof("NO", "ONE")


def fail_to_save(client: redis.Redis, data: Path) -> Callable[[], object]:
    """As with a full disk: after a snapshot that failed, Redis refuses to write (MISCONF)."""
    (data / "taken.rdb").mkdir()
    client.config_set("dbfilename", "taken.rdb")
    client.config_set("save", "3600 1")
    client.bgsave()
    until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    return lambda: client.config_set("save", "")


def miss_replicas(client: redis.Redis, data: Path) -> Callable[[], object]:
    """As where a write must reach a replica, and none is there."""
    client.config_set("min-replicas-to-write", 1)
    return lambda: client.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize("refuse", [become_a_replica, fail_to_save, miss_replicas])
def test_a_redis_that_takes_no_writes_is_waited_for(
    refuse: Callable[[redis.Redis, Path], Callable[[], object]],
    server: Daemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = redis.Redis.from_url(server.url)
    decide = evaluate.evaluate_batch
    undo: list[Callable[[], object]] = []
    refused: list[Exception] = []
    sizes: set[int] = set()

    def refuse_then_decide(*arguments: Any) -> object:
        sizes.add(len(arguments[0]))
        if not undo:
            undo.append(refuse(client, tmp_path / "redis"))
        try:
            return decide(*arguments)
        except redis.RedisError as error:
            refused.append(error)
            raise

    monkeypatch.setattr(evaluate, "evaluate_batch", refuse_then_decide)
    for stage in ("persist", "evaluate"):
        monkeypatch.setitem(broker.actors[stage].options, "max_retries", 0)
    rule()
    accept(*[event() for _ in range(20)])
    worker = dramatiq.Worker(broker, worker_threads=8, worker_timeout=50)
    worker.start()
    try:
        until(lambda: refused)
        with pytest.raises(QueueUnavailable):
            accept(event())
        undo[0]()
        until(lambda: idle(client), 30)
    finally:
        worker.stop(5_000)
    assert not client.keys("eventpulse:*.XQ")
    assert sizes == {20}, "the batch was blamed, and taken apart"
    with connection():
        assert Event.select().count() == 20
    client.close()


@pytest.mark.usefixtures("server")
def test_consumers_that_hold_nothing_do_not_wait_to_give_it_back(tmp_path: Path) -> None:
    """A refusal may last for hours, and one is replaced every second."""
    held = len(broker.unreleased_consumers)
    undo = miss_replicas(broker.client, tmp_path)
    for _ in range(5):
        consumer = broker.consume("persist")
        with pytest.raises(ConnectionClosed):
            next(consumer)
        consumer.close()
    undo()
    assert len(broker.unreleased_consumers) == held

"""Tests of outages of PostgreSQL while a worker runs: batches wait and continue unchanged."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dramatiq
import peewee
import psutil
import pytest
import redis
from support import clusters
from support.pipeline_factory import accept, anomalies, event, idle, rule
from support.waiting import until

from actors import runtime
from actors.broker import broker
from actors.pipeline import evaluate, notify, persist
from eventpulse.local.daemon import Daemon
from eventpulse.settings import ConnectedSettings
from models import database, migrations
from models.database import connection
from models.delivery import Delivery
from models.event import Event


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Daemon]:
    """Start a PostgreSQL server for the test."""
    server = clusters.start_postgres(tmp_path / "postgres" / "data")
    yield server
    database.database.close_all()
    server.stop()


@pytest.fixture
def worker(server: Daemon, redis_url: str, redis_client: redis.Redis) -> Iterator[dramatiq.Worker]:
    """Start a worker for all actors, with retries disabled, and wait until it has processed one event."""
    runtime.setup(ConnectedSettings(redis_url=redis_url, database_url=server.url), name="tests")
    migrations.up()
    stages = (persist.persist, evaluate.evaluate, notify.notify)
    retries = [stage.options["max_retries"] for stage in stages]
    for stage in stages:
        stage.options["max_retries"] = 0
    worker = dramatiq.Worker(broker, worker_threads=8, worker_timeout=50)
    worker.start()
    accept(event())
    until(lambda: idle(redis_client))
    yield worker
    worker.stop(5_000)
    for stage, max_retries in zip(stages, retries, strict=True):
        stage.options["max_retries"] = max_retries


def kill(server: Daemon) -> None:
    """Kill all processes of the server, because a remaining child process could still respond to its client."""
    for process in (psutil.Process(server.pid), *psutil.Process(server.pid).children()):
        process.kill()
    until(lambda: server.exit_status() is not None)


@pytest.mark.usefixtures("worker")
def test_an_outage_of_postgresql_loses_no_event_and_uses_no_retry(
    server: Daemon, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[Exception] = []

    @contextmanager
    def counted_connection() -> Iterator[None]:
        try:
            with connection():
                yield
        except peewee.OperationalError as error:
            failures.append(error)
            raise

    monkeypatch.setattr(persist, "connection", counted_connection)
    kill(server)
    accept(*[event() for _ in range(50)])
    until(lambda: len(failures) >= 3)
    server.start()
    until(lambda: idle(redis_client), 30)
    with connection():
        assert Event.select().count() == 51
    assert not redis_client.keys("eventpulse:*.XQ")


@pytest.mark.usefixtures("worker")
def test_an_anomaly_during_an_outage_is_announced_after_it(
    server: Daemon, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL is killed after the events are stored and before they are evaluated."""
    rule()
    decide = evaluate.evaluate_batch
    killed = threading.Event()

    def kill_then_decide(*arguments: Any) -> Any:
        if not killed.is_set():
            kill(server)
            killed.set()
        return decide(*arguments)

    monkeypatch.setattr(evaluate, "evaluate_batch", kill_then_decide)
    accept(*[event() for _ in range(3)])
    assert killed.wait(10)
    server.start()
    until(lambda: idle(redis_client), 30)
    assert len(anomalies()) == 1
    with connection():
        assert {delivery.status for delivery in Delivery.select()} == {"delivered"}
    assert not redis_client.keys("eventpulse:*.XQ")


def test_a_worker_that_waits_for_postgresql_stops_on_request(
    server: Daemon, worker: dramatiq.Worker, redis_client: redis.Redis
) -> None:
    kill(server)
    accept(*[event() for _ in range(50)])
    until(lambda: redis_client.llen("eventpulse:persist") == 0)
    worker.stop(3_000)
    assert not any(thread.is_alive() for thread in worker.workers)
    assert redis_client.llen("eventpulse:persist") == 1
    assert redis_client.get("eventpulse:persist.count") == b"50"
    assert not redis_client.exists("eventpulse:persist.isolated")
    server.start()


@pytest.mark.usefixtures("worker")
def test_a_crash_under_an_open_connection_is_an_outage(server: Daemon) -> None:
    """In this case, the driver raises DatabaseError instead of OperationalError."""
    with connection():
        kill(server)
        with pytest.raises(peewee.PeeweeException) as raised:
            database.database.execute_sql("SELECT 1")
    assert database.is_outage(raised.value)
    server.start()

"""PostgreSQL goes away under a working worker: the work waits, whole, and goes on."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
import redis
from making import accept, event
from waiting import until

import actors
from eventpulse import embedded
from eventpulse.daemon import Daemon
from eventpulse.settings import Settings
from models import database, migrations
from models.database import connection
from models.event import Event


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Daemon]:
    """A PostgreSQL of our own."""
    server = embedded.start_postgres(tmp_path / "postgres" / "data")
    yield server
    database.database.close_all()
    server.stop()


def test_a_postgresql_that_was_killed_costs_neither_events_nor_retries(
    server: Daemon, redis_url: str, redis_client: redis.Redis
) -> None:
    actors.setup(Settings(redis_url=redis_url, database_url=server.url), name="tests")
    migrations.up()
    worker = dramatiq.Worker(actors.broker, worker_threads=8, worker_timeout=50)
    worker.start()
    try:
        accept(event())
        until(lambda: not redis_client.exists("eventpulse:evaluate.msgs"))
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: server.exit_status() is not None)
        accept(*[event() for _ in range(50)])
        until(lambda: redis_client.llen("eventpulse:persist") == 0)
        server.start()

        def stored() -> bool:
            with connection():
                return bool(Event.select().count() == 51)

        until(stored, 30)
        until(lambda: not redis_client.exists("eventpulse:persist.msgs"))
        assert not redis_client.exists("eventpulse:persist.XQ")
    finally:
        worker.stop(5_000)

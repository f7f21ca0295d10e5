"""Tests that several worker processes have the same results as one, even if a worker is stopped or killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import redis
from support.pipeline_factory import accept, event, rule
from support.waiting import until

from actors import runtime
from actors.broker import broker
from actors.transport import queues
from eventpulse.settings import ConnectedSettings
from models.anomaly import Anomaly
from models.database import connection
from models.delivery import Delivery
from models.event import Event

StartWorker = Callable[[], subprocess.Popen[bytes]]
MANY = {"condition": {"type": "threshold", "operator": ">=", "value": 150}}


@pytest.fixture
def client(redis_url: str, redis_client: redis.Redis, empty_database: str) -> redis.Redis:
    runtime.setup(ConnectedSettings(redis_url=redis_url, database_url=empty_database), name="tests")
    return redis_client


@pytest.fixture
def start_worker(client: redis.Redis, redis_url: str, empty_database: str) -> Iterator[StartWorker]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        environment = os.environ | {"REDIS_URL": redis_url, "DATABASE_URL": empty_database, "LOG_LEVEL": "warning"}
        before = queues.workers_alive(broker)
        started.append(subprocess.Popen([sys.executable, "-m", "eventpulse", "worker"], env=environment))
        until(lambda: queues.workers_alive(broker) > before, 20)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def everything_is_done(client: redis.Redis) -> bool:
    return all(state.depth == 0 for state in queues.depths(broker).values())


def count(model: type[Event] | type[Anomaly]) -> int:
    with connection():
        return int(model.select().count())


def test_a_threshold_over_two_workers_fires_exactly_once(client: redis.Redis, start_worker: StartWorker) -> None:
    rule(**MANY)
    start_worker()
    start_worker()
    for start in range(0, 200, 10):
        accept(*[event(seconds=(start + n) / 1000) for n in range(10)])
    until(lambda: everything_is_done(client), 20)
    assert count(Event) == 200
    assert count(Anomaly) == 1


def test_a_threshold_fires_exactly_once_if_a_worker_is_replaced_in_between(
    client: redis.Redis, start_worker: StartWorker
) -> None:
    rule(**MANY)
    first = start_worker()
    accept(*[event(seconds=n / 1000) for n in range(100)])
    until(lambda: everything_is_done(client), 20)
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == 0
    assert count(Anomaly) == 0
    start_worker()
    accept(*[event(seconds=n / 1000) for n in range(100, 200)])
    until(lambda: everything_is_done(client), 20)
    assert count(Anomaly) == 1


def test_a_killed_worker_loses_no_event_and_repeats_no_alert(client: redis.Redis, start_worker: StartWorker) -> None:
    rule(**MANY)
    killed = start_worker()
    for _ in range(10):
        accept(*[event() for _ in range(500)])
    until(lambda: count(Event) > 500)
    killed.kill()
    killed.wait()
    start_worker()

    def recovered() -> bool:
        broker.recover(timeout_ms=3_000)  # workers also recover leases, but after a longer timeout
        return everything_is_done(client)

    until(recovered, 40)
    assert count(Event) == 5_000
    assert count(Anomaly) == 1
    with connection():
        assert {delivery.status for delivery in Delivery.select()} == {"delivered"}


def test_a_worker_does_not_start_with_a_redis_that_evicts_keys(
    client: redis.Redis, redis_url: str, empty_database: str
) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        environment = os.environ | {"REDIS_URL": redis_url, "DATABASE_URL": empty_database, "LOG_FORMAT": "json"}
        command = [sys.executable, "-m", "eventpulse", "worker"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert ended.returncode == 1
    assert "noeviction" in ended.stderr


WORKER_THAT_LOSES_A_THREAD = """
import sys
from actors import worker
from actors.transport import consumer
from eventpulse.settings import ConnectedSettings, Settings

def die(consumer):
    raise SystemExit

consumer.Consumer._fetch = die
sys.exit(worker.run(Settings.from_environ()))
"""


def test_a_worker_without_one_of_its_threads_exits(client: redis.Redis, redis_url: str, empty_database: str) -> None:
    environment = os.environ | {"REDIS_URL": redis_url, "DATABASE_URL": empty_database}
    ended = subprocess.run([sys.executable, "-c", WORKER_THAT_LOSES_A_THREAD], env=environment, timeout=20, check=False)
    assert ended.returncode == 1

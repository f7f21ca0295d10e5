"""Tests of the orderly stop of a worker process, with and without a send in progress."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from support import fake_http_server
from support.pipeline_factory import accept, event, rule
from support.waiting import until

from actors import runtime
from actors.broker import broker
from actors.transport import queues
from eventpulse.settings import ConnectedSettings
from models.channel import Channel
from models.database import connection
from models.delivery import Delivery

StartWorker = Callable[[], subprocess.Popen[bytes]]
#: Duration of a send in seconds: longer than an idle worker needs to stop, shorter than the time limit of a send.
SLOW_SECONDS = 4.0


@pytest.fixture
def start_worker(redis_url: str, redis_client: redis.Redis, empty_database: str) -> Iterator[StartWorker]:
    runtime.setup(ConnectedSettings(redis_url=redis_url, database_url=empty_database), name="tests")
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        environment = os.environ | {"REDIS_URL": redis_url, "DATABASE_URL": empty_database, "LOG_LEVEL": "warning"}
        started.append(subprocess.Popen([sys.executable, "-m", "eventpulse", "worker"], env=environment))
        until(lambda: queues.workers_alive(broker), 20)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def add_only_channel(webhook_url: str) -> None:
    with connection():
        Channel.update(enabled=False).execute()
        Channel.create(name="slow", kind="slack", settings={"webhook_url": webhook_url})


def test_a_stopping_worker_ends_the_send_in_progress_and_nothing_is_sent_twice(start_worker: StartWorker) -> None:
    with fake_http_server.running() as server:
        server.behaviour = server.delayed(SLOW_SECONDS, fake_http_server.OK)
        add_only_channel(server.url)
        rule()
        accept(*[event() for _ in range(3)])
        worker = start_worker()
        until(lambda: server.received, 20)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(15) == 0
        assert len(server.received) == 1
    with connection():
        (delivery,) = Delivery.select()
    assert (delivery.status, delivery.attempts) == ("delivered", 1)


def test_a_worker_without_calls_in_progress_stops_without_delay(start_worker: StartWorker) -> None:
    worker = start_worker()
    started = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(15) == 0
    assert time.monotonic() - started < 5  # a machine with other load; a send in progress is waited for 11 s

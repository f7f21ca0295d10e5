"""Tests of crashes and restarts of Redis: no queued message is lost."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import msgspec
import pytest
from support.broker_factory import enqueue, make_broker, number_of
from support.waiting import until

from actors.transport.redis_broker import RedisBroker
from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Daemon]:
    """Start a Redis server for the test."""
    server = embedded.start_redis(tmp_path / "redis")
    yield server
    server.stop()


def kill(server: Daemon) -> None:
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: server.exit_status() is not None)


def declare_stage(broker: RedisBroker) -> None:
    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*arguments: msgspec.Raw) -> None: ...


def test_a_retry_during_an_outage_is_not_lost(server: Daemon) -> None:
    """In stock Dramatiq, the hook that enqueues the retry fails, and the message is acknowledged and lost."""
    broker = make_broker(server.url, max_retries=20)
    attempts: list[int] = []
    processed: list[int] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*arguments: msgspec.Raw) -> None:
        attempts.append(len(arguments))
        if len(attempts) == 1:
            kill(server)
            raise ValueError("the retry cannot be enqueued now")
        processed.extend(number_of(argument) for argument in arguments)

    enqueue(broker, "stage", b'{"n":1}')
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=50)
    worker.start()
    try:
        until(lambda: attempts)
        server.start()
        # Repeat the recovery, as every worker does, until the last heartbeat of the lost consumer is 3 s old.
        until(lambda: broker.recover(timeout_ms=3_000) and processed, 30)
        assert processed == [1]
        until(lambda: not broker.client.exists("eventpulse:stage.msgs"), 30)
        assert not broker.client.exists("eventpulse:stage.XQ")
    finally:
        worker.stop(5_000)
        broker.client.close()


def test_waiting_and_delayed_messages_survive_a_crash_of_redis(server: Daemon) -> None:
    broker = make_broker(server.url)
    processed: set[int] = set()

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*arguments: msgspec.Raw) -> None:
        processed.update(number_of(argument) for argument in arguments)

    enqueue(broker, "stage", *[b'{"n":%d}' % n for n in range(50)])
    for n in range(50, 100):
        stage.send_with_options(args=({"n": n},), delay=50)
    kill(server)
    server.start()
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=50)
    worker.start()
    try:
        until(lambda: processed == set(range(100)))
    finally:
        worker.stop(5_000)
        broker.client.close()


def test_leases_from_before_an_outage_are_released_by_the_next_consumer(server: Daemon) -> None:
    """In stock Dramatiq the messages remain leased until the worker is restarted."""
    broker = make_broker(server.url)
    declare_stage(broker)
    enqueue(broker, "stage", b'{"n":1}')
    consumer = broker.consume("stage")
    assert next(consumer) is not None
    kill(server)
    consumer.close()
    server.start()
    broker.consume("stage")
    assert broker.client.llen("eventpulse:stage") == 1
    assert not broker.client.keys("eventpulse:__acks__*")
    broker.client.close()


def test_no_lease_is_recovered_just_after_redis_was_unavailable(server: Daemon) -> None:
    broker = make_broker(server.url)
    declare_stage(broker)
    enqueue(broker, "stage", b'{"n":1}')
    consumer = broker.consume("stage")
    assert next(consumer) is not None
    broker.recover()
    broker.client.delete("eventpulse:__grace__")
    # Set old times of the last heartbeat and of the last recovery, as after a long outage of Redis.
    broker.client.zadd("eventpulse:__heartbeats__", {consumer.lease: 1})
    broker.client.set("eventpulse:__last_recovery__", 1)
    assert broker.recover() == (0, 0)
    assert next(consumer) is None
    broker.client.delete("eventpulse:__grace__")
    assert broker.recover() == (0, 0)
    broker.client.close()

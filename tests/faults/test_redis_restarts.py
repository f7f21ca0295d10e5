"""Redis dies under a working worker and comes back: nothing that was queued is lost."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import msgspec
import pytest
from support.broker_factory import enqueue, make_broker
from support.waiting import until

from actors.transport.redis_broker import RedisBroker
from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Daemon]:
    """A Redis of our own."""
    server = embedded.start_redis(tmp_path / "redis")
    yield server
    server.stop()


def kill(server: Daemon) -> None:
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: server.exit_status() is not None)


def test_a_retry_that_falls_into_an_outage_is_not_lost(server: Daemon) -> None:
    """Stock Dramatiq sends the retry in a hook whose exception it swallows, and acknowledges the message."""
    broker = make_broker(server.url, max_retries=20)
    attempts: list[int] = []
    done: list[int] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*events: msgspec.Raw) -> None:
        attempts.append(len(events))
        if len(attempts) == 1:
            kill(server)
            raise ValueError("its retry cannot be written now")
        done.extend(msgspec.json.decode(event)["n"] for event in events)

    enqueue(broker, "stage", b'{"n":1}')
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=50)
    worker.start()
    try:
        until(lambda: attempts)
        server.start()
        # The lease of the consumer that lost its connection runs out; a scheduler would see to it.
        until(lambda: broker.recover(timeout_ms=3_000) and done, 30)
        assert done == [1]
        until(lambda: not broker.client.exists("eventpulse:stage.msgs"), 30)
        assert not broker.client.exists("eventpulse:stage.XQ")
    finally:
        worker.stop(5_000)
        broker.client.close()


def test_messages_queued_and_delayed_survive_the_death_of_redis(server: Daemon) -> None:
    broker = make_broker(server.url)
    done: set[int] = set()

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*events: msgspec.Raw) -> None:
        done.update(msgspec.json.decode(event)["n"] for event in events)

    events = [b'{"n":%d}' % n for n in range(50)]
    enqueue(broker, "stage", *events)
    for n in range(50, 100):
        stage.send_with_options(args=({"n": n},), delay=50)
    kill(server)
    server.start()
    worker = dramatiq.Worker(broker, worker_threads=2, worker_timeout=50)
    worker.start()
    try:
        until(lambda: done == set(range(100)))
    finally:
        worker.stop(5_000)
        broker.client.close()


def declare(broker: RedisBroker) -> None:
    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*events: msgspec.Raw) -> None: ...


def test_what_was_leased_before_an_outage_comes_back_with_the_next_consumer(server: Daemon) -> None:
    """Stock Dramatiq leaves it stranded until its worker is restarted and then given up."""
    broker = make_broker(server.url)
    declare(broker)
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


def test_nobody_is_taken_for_dead_because_redis_was_away(server: Daemon) -> None:
    broker = make_broker(server.url)
    declare(broker)
    enqueue(broker, "stage", b'{"n":1}')
    consumer = broker.consume("stage")
    assert next(consumer) is not None
    broker.recover()
    broker.client.delete("eventpulse:__grace__")
    # Redis stood still for long: nobody could tell that he lives, nor look after the dead.
    broker.client.zadd("eventpulse:__heartbeats__", {consumer.lease: 1})
    broker.client.set("eventpulse:__last_recovery__", 1)
    assert broker.recover() == (0, 0)
    assert next(consumer) is None
    broker.client.delete("eventpulse:__grace__")
    assert broker.recover() == (0, 0)
    broker.client.close()

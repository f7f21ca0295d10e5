"""Leases: what a worker holds comes back when it stops or dies, and to nobody else before."""

import threading
from functools import partial

import dramatiq
import msgspec
import pytest
from dramatiq.message import Message
from support.broker_factory import StartWorker, number_of, numbers, queue, queue_is_empty
from support.waiting import until

from actors.transport.consumer import Consumer
from actors.transport.redis_broker import RedisBroker


def leased(broker: RedisBroker, count: int) -> Consumer:
    """A consumer that leased `count` messages and is not heard of again."""
    declare(broker)
    numbers(broker, "stage", count)
    consumer = Consumer(broker, "stage", 100, 1, 50)
    assert next(consumer) is not None
    return consumer


def declare(broker: RedisBroker) -> None:
    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100)
    def stage(*events: msgspec.Raw) -> None: ...


def test_an_orderly_stop_gives_back_what_was_leased(broker: RedisBroker) -> None:
    leased(broker, 10).close()
    assert broker.client.llen("eventpulse:stage") == 10
    assert broker.client.zcard("eventpulse:__heartbeats__") == 0


def test_a_dead_workers_messages_come_back_as_they_were(broker: RedisBroker) -> None:
    """It was killed by chance, for all that is known: one at a time, a full batch would take too long."""
    leased(broker, 3)
    assert broker.recover(timeout_ms=0) == (3, 0)
    work = next(Consumer(broker, "stage", 100, 1, 50))
    assert work is not None
    assert len(work.records) == 3


def test_what_two_workers_died_with_comes_back_one_at_a_time(broker: RedisBroker) -> None:
    leased(broker, 3)
    broker.recover(timeout_ms=0)
    assert next(Consumer(broker, "stage", 100, 1, 50)) is not None
    assert broker.recover(timeout_ms=0) == (3, 0)
    heir = Consumer(broker, "stage", 100, 1, 50)
    sizes = []
    while len(sizes) < 3:
        if next(heir) is None:
            work = next(heir)
            assert work is not None
            sizes.append(len(work.records))
            heir.ack(work)
    assert sizes == [1, 1, 1]
    assert queue_is_empty(broker, "stage")


def test_a_live_workers_lease_is_left_alone(broker: RedisBroker) -> None:
    leased(broker, 3)
    assert broker.recover() == (0, 0)


def test_a_message_that_kills_its_workers_is_dead_lettered(broker: RedisBroker) -> None:
    leased(broker, 1)
    assert broker.recover(timeout_ms=0) == (1, 0)
    for expected in ((1, 0), (0, 1)):
        victim = Consumer(broker, "stage", 100, 1, 50)
        until(partial(next, victim))
        assert broker.recover(timeout_ms=0) == expected
    assert broker.client.hvals("eventpulse:stage.XQ.why") == [b"3 workers died while they held this message"]
    assert queue_is_empty(broker, "stage")


def test_a_worker_that_lost_its_lease_settles_nothing(broker: RedisBroker) -> None:
    """Its messages are another's by now: neither acknowledged nor followed up twice."""

    @dramatiq.actor(broker=broker, queue_name="next", actor_name="next")
    def follow_up() -> None: ...

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100)
    def stage(*events: msgspec.Raw) -> None: ...

    numbers(broker, "stage", 3)
    slow = Consumer(broker, "stage", 100, 1, 50)
    work = next(slow)
    assert work is not None
    broker.recover(timeout_ms=0)
    work.outbox.add("next", "id", b"message")
    slow.ack(work)
    assert broker.client.hlen("eventpulse:stage.msgs") == 3
    assert not broker.client.exists("eventpulse:next")


def test_a_suspect_is_handed_out_only_when_nothing_else_is_held(broker: RedisBroker) -> None:
    leased(broker, 1)
    broker.recover(timeout_ms=0)
    victim = Consumer(broker, "stage", 1, 1, 50)
    assert next(victim) is not None
    numbers(broker, "stage", 1)
    heir = Consumer(broker, "stage", batch=1, concurrency=2, timeout_ms=20)
    other = next(heir)
    assert other is not None
    broker.client.zadd("eventpulse:__heartbeats__", {victim.lease: 1})
    until(lambda: heir._call_fetch(0) and broker.recover(timeout_ms=2_000) == (1, 0))
    assert [next(heir), next(heir)] == [None, None]
    assert broker.client.llen("eventpulse:stage.isolated") == 1
    heir.ack(other)
    assert next(heir) is None
    assert next(heir) is not None
    assert broker.client.llen("eventpulse:stage.isolated") == 0


def test_a_busy_consumer_is_alive(broker: RedisBroker) -> None:
    """However long its work takes, its lease does not run out while it calls."""
    consumer = leased(broker, 1)
    broker.client.zadd("eventpulse:__heartbeats__", {consumer.lease: 1})
    assert next(consumer) is None
    assert (broker.client.zscore("eventpulse:__heartbeats__", consumer.lease) or 0) > 1


def test_a_consumer_never_waits_for_ever(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis takes a time-out below a millisecond for none at all."""
    declare(broker)
    waited: list[float] = []
    monkeypatch.setattr(broker.client, "blmove", lambda *arguments: waited.append(arguments[2]))
    Consumer(broker, "stage", 10, 1, 50)._wait_for_messages(next_due_ms=0)
    assert waited[0] >= 0.001


def test_what_nothing_took_care_of_is_not_acknowledged(
    broker: RedisBroker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dramatiq swallows what its middleware raises, and would acknowledge a message whose retry was never sent."""
    failed = threading.Event()

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*events: msgspec.Raw) -> None:
        raise ValueError("it fails")

    def enqueue(*_: object, **__: object) -> None:
        failed.set()
        raise OSError("and its retry cannot be sent")

    numbers(broker, "stage", 1)
    monkeypatch.setattr(broker, "enqueue", enqueue)
    worker = start_worker(broker)
    assert failed.wait(10)
    worker.stop(5_000)
    assert broker.client.llen("eventpulse:stage") == 1
    assert broker.client.hlen("eventpulse:stage.msgs") == 1


def collected(broker: RedisBroker) -> list[int]:
    """The numbers that a stage will have been given."""
    done: list[int] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*events: msgspec.Raw) -> None:
        done.extend(number_of(event) for event in events)

    return done


def test_messages_of_an_actor_that_does_not_exist_die_and_their_neighbours_do_not(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    done = collected(broker)
    queue(broker, "gone", b'{"n":8}', b'{"n":9}', to="stage")
    numbers(broker, "stage", 3)
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert sorted(done) == [0, 1, 2]
    assert broker.client.zcard("eventpulse:stage.XQ") == 2


def test_a_message_is_settled_by_where_it_lies_not_by_what_it_says(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    done = collected(broker)
    message = Message("stage", "stage", ({"n": 1},), {}, {"redis_message_id": "elsewhere"}, "strange")
    broker.run_script("enqueue", "stage", "an-id", message.encode(), 0)
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert done == [1]

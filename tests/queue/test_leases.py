"""Leases: what a worker holds comes back when it stops or dies, and to nobody else before."""

import dramatiq
import msgspec
from staging import numbers, queue_is_empty

from actors.batching import Consumer
from actors.transport import RedisBroker


def leased(broker: RedisBroker, count: int) -> Consumer:
    """A consumer that leased `count` messages and is not heard of again."""

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100)
    def stage(*events: msgspec.Raw) -> None: ...

    numbers(broker, "stage", count)
    consumer = Consumer(broker, "stage", 100, 1, 50)
    assert next(consumer) is not None
    return consumer


def test_an_orderly_stop_gives_back_what_was_leased(broker: RedisBroker) -> None:
    leased(broker, 10).close()
    assert broker.client.llen("eventpulse:stage") == 10
    assert broker.client.zcard("eventpulse:__heartbeats__") == 0


def test_a_dead_workers_messages_come_back_one_at_a_time(broker: RedisBroker) -> None:
    leased(broker, 3)
    assert broker.recover(timeout_ms=0) == (3, 0)
    heir = Consumer(broker, "stage", 100, 1, 50)
    sizes = []
    while len(sizes) < 3:
        if next(heir) is None:
            work = next(heir)
            assert work is not None
            sizes.append(len(work.members))
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
        assert next(victim) is None
        assert next(victim) is not None
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

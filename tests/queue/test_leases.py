"""Tests of leases: release at a stop, recovery after a crash, heartbeats, and acknowledgements."""

import threading
from functools import partial

import dramatiq
import msgspec
import pytest
from dramatiq.message import Message
from support.broker_factory import StartWorker, declare_stage, enqueue, enqueue_numbers, queue_is_empty
from support.waiting import until

from actors.transport.consumer import Consumer
from actors.transport.middleware import stopping
from actors.transport.redis_broker import RedisBroker


def lease_numbers(broker: RedisBroker, count: int) -> Consumer:
    """Enqueue `count` messages; return a consumer that has leased these messages and sends no further heartbeat."""
    declare_stage(broker)
    enqueue_numbers(broker, "stage", count)
    consumer = Consumer(broker, "stage", 100, 1, 50)
    assert next(consumer) is not None
    return consumer


def test_a_consumer_that_closes_releases_its_leases(broker: RedisBroker) -> None:
    lease_numbers(broker, 10).close()
    assert broker.client.llen("eventpulse:stage") == 10
    assert broker.client.zcard("eventpulse:__heartbeats__") == 0


def test_a_consumer_of_a_stopping_worker_leases_no_message_but_sends_heartbeats(broker: RedisBroker) -> None:
    declare_stage(broker)
    enqueue_numbers(broker, "stage", 1)
    consumer = Consumer(broker, "stage", 100, 1, 20)
    stopping.set()
    try:
        assert next(consumer) is None
    finally:
        stopping.clear()
    assert broker.client.llen("eventpulse:stage") == 1
    assert broker.client.zscore("eventpulse:__heartbeats__", consumer.lease)


def test_messages_of_a_crashed_worker_are_requeued_as_a_batch(broker: RedisBroker) -> None:
    """Most crashes are not caused by a message, and processing the messages one at a time would be slow."""
    lease_numbers(broker, 3)
    assert broker.recover(timeout_ms=0) == (3, 0)
    batch = next(Consumer(broker, "stage", 100, 1, 50))
    assert batch is not None
    assert len(batch.records) == 3


def test_messages_with_two_crashes_run_one_at_a_time(broker: RedisBroker) -> None:
    lease_numbers(broker, 3)
    broker.recover(timeout_ms=0)
    assert next(Consumer(broker, "stage", 100, 1, 50)) is not None
    assert broker.recover(timeout_ms=0) == (3, 0)
    consumer = Consumer(broker, "stage", 100, 1, 50)
    sizes = []
    while len(sizes) < 3:
        batch = until(partial(next, consumer))
        sizes.append(len(batch.records))
        consumer.ack(batch)
    assert sizes == [1, 1, 1]
    assert queue_is_empty(broker, "stage")


def test_leases_with_a_heartbeat_are_not_recovered(broker: RedisBroker) -> None:
    lease_numbers(broker, 3)
    assert broker.recover() == (0, 0)


def test_a_message_with_three_crashes_is_dead_lettered(broker: RedisBroker) -> None:
    lease_numbers(broker, 1)
    assert broker.recover(timeout_ms=0) == (1, 0)
    for expected in ((1, 0), (0, 1)):
        consumer = Consumer(broker, "stage", 100, 1, 50)
        until(partial(next, consumer))
        assert broker.recover(timeout_ms=0) == expected
    reasons = broker.client.hvals("eventpulse:stage.XQ.why")
    assert reasons == [b"3 workers crashed while they processed this message"]
    assert queue_is_empty(broker, "stage")


def test_a_worker_that_lost_its_lease_settles_no_message(broker: RedisBroker) -> None:
    """Another worker may process the messages; the first worker must not settle them and must discard its outbox."""

    @dramatiq.actor(broker=broker, queue_name="next", actor_name="next")
    def follow_up() -> None: ...

    declare_stage(broker)
    enqueue_numbers(broker, "stage", 3)
    slow = Consumer(broker, "stage", 100, 1, 50)
    batch = until(partial(next, slow))
    broker.recover(timeout_ms=0)
    batch.outbox.add("next", "id", b"message")
    slow.ack(batch)
    assert broker.client.hlen("eventpulse:stage.msgs") == 3
    assert not broker.client.exists("eventpulse:next")


def test_an_isolated_message_waits_until_the_consumer_has_settled_its_other_batches(broker: RedisBroker) -> None:
    lease_numbers(broker, 1)
    broker.recover(timeout_ms=0)
    crashed = Consumer(broker, "stage", 1, 1, 50)
    assert next(crashed) is not None
    enqueue_numbers(broker, "stage", 1)
    consumer = Consumer(broker, "stage", batch=1, concurrency=2, timeout_ms=20)
    other = next(consumer)
    assert other is not None
    broker.client.zadd("eventpulse:__heartbeats__", {crashed.lease: 1})
    until(lambda: consumer._call_fetch(0) and broker.recover(timeout_ms=2_000) == (1, 0))
    assert [next(consumer), next(consumer)] == [None, None]
    assert broker.client.llen("eventpulse:stage.isolated") == 1
    consumer.ack(other)
    until(partial(next, consumer))
    assert broker.client.llen("eventpulse:stage.isolated") == 0


def test_a_consumer_with_a_long_call_sends_heartbeats(broker: RedisBroker) -> None:
    consumer = lease_numbers(broker, 1)
    broker.client.zadd("eventpulse:__heartbeats__", {consumer.lease: 1})
    assert next(consumer) is None
    assert (broker.client.zscore("eventpulse:__heartbeats__", consumer.lease) or 0) > 1


def test_a_consumer_never_waits_without_a_timeout(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis treats a timeout of less than one millisecond as an infinite timeout."""
    declare_stage(broker)
    timeouts: list[float] = []
    monkeypatch.setattr(broker.client, "blmove", lambda *arguments: timeouts.append(arguments[2]))
    Consumer(broker, "stage", 10, 1, 50)._wait_for_messages(next_due_ms=0)
    assert timeouts[0] >= 0.001


def test_a_message_whose_retry_was_not_enqueued_is_not_acknowledged(
    broker: RedisBroker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dramatiq only logs an exception of middleware and acknowledges the message, so the message would be lost."""
    failed = threading.Event()

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*arguments: msgspec.Raw) -> None:
        raise ValueError("the actor fails")

    def enqueue(*_: object, **__: object) -> None:
        failed.set()
        raise OSError("the retry cannot be enqueued")

    enqueue_numbers(broker, "stage", 1)
    monkeypatch.setattr(broker, "enqueue", enqueue)
    worker = start_worker(broker)
    assert failed.wait(10)
    worker.stop(5_000)
    assert broker.client.llen("eventpulse:stage") == 1
    assert broker.client.hlen("eventpulse:stage.msgs") == 1


def test_messages_of_an_unknown_actor_are_dead_lettered_and_the_others_run(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    calls = declare_stage(broker)
    enqueue(broker, "unknown", b'{"n":8}', b'{"n":9}', to="stage")
    enqueue_numbers(broker, "stage", 3)
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert sorted(number for call in calls for number in call) == [0, 1, 2]
    assert broker.client.zcard("eventpulse:stage.XQ") == 2


def test_a_message_is_settled_by_its_entry_id_and_not_by_its_options(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    calls = declare_stage(broker)
    message = Message("stage", "stage", ({"n": 1},), {}, {"redis_message_id": "another"}, "message-id")
    broker.run_script("enqueue", "stage", "entry-id", message.encode(), 0)
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls == [[1]]


def test_two_actors_of_one_queue_must_have_the_same_lease_options(broker: RedisBroker) -> None:
    declare_stage(broker)
    dramatiq.actor(lambda *_: None, broker=broker, queue_name="stage", actor_name="same", batch=100)
    for options in ({"batch": 50}, {"batch": 100, "concurrency": 2}, {}):
        with pytest.raises(ValueError, match="'stage' and 'other' of queue 'stage' must have the same batch"):
            dramatiq.actor(lambda *_: None, broker=broker, queue_name="stage", actor_name="other", **options)


def test_a_queue_without_an_actor_cannot_be_consumed(broker: RedisBroker) -> None:
    with pytest.raises(ValueError, match="queue 'unknown' has no actor"):
        broker.consume("unknown")


def test_a_worker_needs_a_thread_for_each_concurrent_call(broker: RedisBroker) -> None:
    dramatiq.actor(lambda: None, broker=broker, queue_name="one", actor_name="one")
    dramatiq.actor(lambda: None, broker=broker, queue_name="three", actor_name="three", concurrency=3)
    assert broker.total_concurrency == 4

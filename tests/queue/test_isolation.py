"""Tests of isolation: after a failed batch or two crashes, messages run one at a time."""

import msgspec
import pytest
from support.broker_factory import declare_stage, depth, enqueue, lease_next, number_arguments, number_of
from support.waiting import until

from actors.transport.consumer import Consumer
from actors.transport.messages import split_bundle
from actors.transport.redis_broker import RedisBroker


def isolate_bundle(broker: RedisBroker, *values: int) -> str:
    """Enqueue and isolate a bundle with these values; return the bundle's id."""
    enqueue(broker, "stage", *number_arguments(*values))
    consumer = Consumer(broker, "stage", 100, 1, 50)
    batch = lease_next(consumer)
    batch.needs_split = True
    consumer.ack(batch)
    consumer.close()
    return batch.ids[0]


def test_a_worker_that_crashes_before_it_splits_a_bundle_leaves_it_isolated(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_stage(broker)
    bundle_id = isolate_bundle(broker, 1, 2)
    run_script = broker.run_script

    def crash_at_split(name: str, *arguments: object) -> object:
        if name == "split":
            raise KeyboardInterrupt
        return run_script(name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(broker, "run_script", crash_at_split)
        with pytest.raises(KeyboardInterrupt):
            until(lambda: next(Consumer(broker, "stage", 100, 1, 50)))
    assert broker.recover(timeout_ms=0) == (0, 0), "the bundle was leased"
    assert broker.client.lrange("eventpulse:stage.isolated", 0, -1) == [bundle_id.encode()]
    assert not broker.client.exists("eventpulse:stage.crashes")
    assert [number_of(argument) for argument in lease_next(Consumer(broker, "stage", 100, 1, 50)).args] == [1]


def test_a_bundle_is_split_once_by_two_consumers(broker: RedisBroker) -> None:
    declare_stage(broker)
    bundle_id = isolate_bundle(broker, 1, 2)
    data = broker.client.hget("eventpulse:stage.msgs", bundle_id)
    assert isinstance(data, bytes)
    parts = split_bundle(bundle_id, data)
    assert broker.run_script("split", "stage", bundle_id, parts) == 2
    assert broker.run_script("split", "stage", bundle_id, parts) == 0
    assert broker.client.lrange("eventpulse:stage.isolated", 0, -1) == [name.encode() for name, _ in parts]
    assert depth(broker, "stage") == 2


def test_nothing_is_leased_while_an_isolated_message_runs(broker: RedisBroker) -> None:
    declare_stage(broker)
    isolate_bundle(broker, 1)
    consumer = Consumer(broker, "stage", batch=100, concurrency=2, timeout_ms=20)
    isolated = lease_next(consumer)
    enqueue(broker, "stage", *number_arguments(2))
    assert next(consumer) is None
    assert broker.client.llen("eventpulse:stage") == 1
    consumer.ack(isolated)
    assert [number_of(argument) for argument in lease_next(consumer).args] == [2]


def test_a_released_isolated_message_stays_isolated(broker: RedisBroker) -> None:
    declare_stage(broker)
    isolate_bundle(broker, 1, 2)
    consumer = Consumer(broker, "stage", 100, 1, 50)
    lease_next(consumer)
    consumer.close()
    assert broker.client.llen("eventpulse:stage.isolated") == 2
    assert broker.client.llen("eventpulse:stage") == 0


def test_an_isolated_id_without_a_message_is_removed(broker: RedisBroker) -> None:
    declare_stage(broker)
    broker.client.rpush("eventpulse:stage.isolated", "3*settled")
    consumer = Consumer(broker, "stage", 100, 1, 20)
    assert next(consumer) is None
    assert not broker.client.exists("eventpulse:stage.isolated", "eventpulse:stage.msgs", "eventpulse:stage.count")


def test_only_the_message_that_crashes_its_workers_is_dead_lettered(broker: RedisBroker) -> None:
    """Each worker that leases the message with the number 1 crashes; other workers acknowledge their batch."""
    declare_stage(broker)
    enqueue(broker, "stage", *number_arguments(0, 1, 2))
    processed, crashes = [], 0
    while depth(broker, "stage"):
        worker = Consumer(broker, "stage", 100, 1, 50)
        batch = lease_next(worker)
        values = [number_of(argument) for argument in batch.args]
        if 1 in values:
            crashes += 1
            broker.recover(timeout_ms=0)
        else:
            processed += values
            worker.ack(batch)
            worker.close()
    assert processed == [0, 2]
    # The bundle crashes two workers. The message carries over one of these crashes, and crashes two more workers alone.
    assert crashes == 4
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    assert msgspec.json.decode(dead)["args"] == [{"n": 1}]
    assert not broker.client.exists("eventpulse:stage.crashes")


def test_each_message_of_a_split_bundle_has_an_id_of_its_own(broker: RedisBroker) -> None:
    declare_stage(broker)
    enqueue(broker, "stage", *number_arguments(*range(3)))
    consumer = Consumer(broker, "stage", 100, 1, 50)
    batch = lease_next(consumer)
    batch.needs_split = True
    consumer.ack(batch)
    ids = []
    for _ in range(3):
        single = lease_next(consumer)
        ids.append(single.message_id)
        consumer.ack(single)
    assert ids == [f"{position}.{batch.ids[0]}" for position in (1, 2, 3)]

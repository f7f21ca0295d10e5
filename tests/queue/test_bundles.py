"""Tests of bundles: several messages in one queue entry, and the split after a failure."""

import msgspec
from support.broker_factory import (
    StartWorker,
    accept,
    declare_stage,
    depth,
    enqueue,
    lease_next,
    number_arguments,
    queue_is_empty,
)
from support.waiting import until

from actors.transport.consumer import Consumer
from actors.transport.messages import Bundle, make_bundles, make_records
from actors.transport.redis_broker import RedisBroker

LEASES = "eventpulse:__heartbeats__"


def test_a_bundle_is_one_entry_and_one_call(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = declare_stage(broker)
    enqueue(broker, "stage", *number_arguments(*range(60)))
    assert broker.client.llen("eventpulse:stage") == 1
    assert depth(broker, "stage") == 60
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls == [[*range(60)]]
    assert depth(broker, "stage") == 0


def test_a_batch_has_at_most_the_messages_of_its_option(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = declare_stage(broker)
    for _ in range(5):
        enqueue(broker, "stage", *number_arguments(*range(40)))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert [len(call) for call in calls] == [80, 80, 40]


def test_a_bundle_larger_than_a_batch_is_leased_by_itself(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = declare_stage(broker)
    enqueue(broker, "stage", *number_arguments(*range(150)))
    enqueue(broker, "stage", *number_arguments(1, 2))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert [len(call) for call in calls] == [150, 2]


def test_the_messages_of_a_failed_bundle_run_one_at_a_time(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = declare_stage(broker, fails_for=3)
    enqueue(broker, "stage", *number_arguments(*range(5)))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls[:6] == [[0, 1, 2, 3, 4], [0], [1], [2], [3], [4]]
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    message = msgspec.json.decode(dead)
    assert message["args"] == [{"n": 3}]
    assert message["options"]["request_id"] == "the-request"
    assert depth(broker, "stage") == 0


def test_an_unreadable_record_is_dead_lettered_and_the_others_of_its_bundle_run(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    calls = declare_stage(broker)
    ((entry_id, data),) = make_bundles("stage", make_records(number_arguments(0, 1, 2), {}), 250)
    accept(broker, "stage", Bundle(entry_id, data.replace(b'{"n":1}', b"\xff\xfe")))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls == [[0], [2]]
    assert broker.client.zrange("eventpulse:stage.XQ", 0, -1) == [f"2.{entry_id}".encode()]


def test_a_bundle_with_an_unreadable_head_is_dead_lettered_record_by_record(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    calls = declare_stage(broker)
    ((entry_id, data),) = make_bundles("stage", make_records(number_arguments(0, 1), {}), 250)
    accept(broker, "stage", Bundle(entry_id, b"\xff" + data))
    enqueue(broker, "stage", *number_arguments(7))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls == [[7]]
    assert broker.client.zcard("eventpulse:stage.XQ") == 2
    assert depth(broker, "stage") == 0


def test_bytes_that_are_not_a_bundle_are_dead_lettered_unchanged(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    declare_stage(broker)
    accept(broker, "stage", Bundle("3*abc", b"\xff\x00 garbage"))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert broker.client.hgetall("eventpulse:stage.XQ.msgs") == {b"1.3*abc": b"\xff\x00 garbage"}
    assert depth(broker, "stage") == 0


def test_an_option_with_blanks_is_kept_after_a_split(broker: RedisBroker, start_worker: StartWorker) -> None:
    declare_stage(broker, fails_for=1)
    accept(
        broker,
        "stage",
        *make_bundles("stage", make_records(number_arguments(1, 2), {"note": 'two "words" \\ \n'}), 250),
    )
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    assert msgspec.json.decode(dead)["options"]["note"] == 'two "words" \\ \n'


def test_the_message_of_a_bundle_with_one_message_keeps_its_request_id(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    declare_stage(broker, fails_for=3)
    enqueue(broker, "stage", *number_arguments(3))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    assert msgspec.json.decode(dead)["options"]["request_id"] == "the-request"


def test_a_consumer_that_closes_releases_a_bundle_unsplit(broker: RedisBroker) -> None:
    declare_stage(broker)
    enqueue(broker, "stage", *number_arguments(*range(9)))
    consumer = Consumer(broker, "stage", 100, 1, 50)
    lease_next(consumer)
    consumer.close()
    assert broker.client.llen("eventpulse:stage") == 1
    assert broker.client.zcard(LEASES) == 0
    assert depth(broker, "stage") == 9

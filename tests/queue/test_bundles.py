"""Bundles: several messages are one queue entry until one of them fails."""

import dramatiq
import msgspec
import pytest
from support.broker_factory import StartWorker, accept, enqueue, number_of, queue_is_empty
from support.waiting import until

from actors.transport.batch import Batch
from actors.transport.consumer import Consumer
from actors.transport.entry_id import EntryId, completed_bundles
from actors.transport.messages import Bundle, make_bundles, make_records, split_bundle
from actors.transport.redis_broker import RedisBroker

LEASES = "eventpulse:__heartbeats__"


def numbers(*values: int) -> list[bytes]:
    return [b'{"n":%d}' % value for value in values]


def declare_stage(broker: RedisBroker, fails_for: int | None = None) -> list[list[int]]:
    """Declare an actor that fails for one number; return the numbers of each of its calls."""
    calls: list[list[int]] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100)
    def stage(*arguments: msgspec.Raw) -> None:
        values = [number_of(argument) for argument in arguments]
        calls.append(values)
        if fails_for in values:
            raise ValueError("this number fails")

    return calls


def lease(consumer: Consumer) -> Batch:
    """Return the next batch; splitting an isolated bundle takes a fetch of its own."""
    batch = until(lambda: next(consumer))
    assert isinstance(batch, Batch)
    return batch


def depth(broker: RedisBroker) -> int:
    return int(broker.client.get("eventpulse:stage.count") or 0)


@pytest.mark.parametrize(
    ("text", "parsed", "size"),
    [
        ("9f3c", EntryId("9f3c"), 1),
        ("100*9f3c", EntryId("9f3c", 100), 100),
        ("7.100*9f3c", EntryId("9f3c", 100, 7), 1),
        ("any text", EntryId("any text"), 1),
        ("1.x*9f3c", EntryId("1.x*9f3c"), 1),
    ],
)
def test_an_entry_id_tells_its_bundle_and_position(text: str, parsed: EntryId, size: int) -> None:
    assert EntryId.parse(text) == parsed
    assert str(parsed) == text
    assert parsed.size == size
    assert parsed.is_bundle == (text == "100*9f3c")


def test_a_bundle_is_complete_with_its_only_message() -> None:
    assert completed_bundles(["5*a", "1.1*b", "2.3*c", "d"]) == ["5*a", "1*b", "2.3*c", "d"]


def test_a_bundle_is_one_entry_and_one_call(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = declare_stage(broker)
    enqueue(broker, "stage", *numbers(*range(60)))
    assert broker.client.llen("eventpulse:stage") == 1
    assert depth(broker) == 60
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls == [[*range(60)]]
    assert depth(broker) == 0


def test_a_batch_has_at_most_the_messages_of_its_option(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = declare_stage(broker)
    for _ in range(5):
        enqueue(broker, "stage", *numbers(*range(40)))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert [len(call) for call in calls] == [80, 80, 40]


def test_a_bundle_larger_than_a_batch_is_leased_by_itself(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = declare_stage(broker)
    enqueue(broker, "stage", *numbers(*range(150)))
    enqueue(broker, "stage", *numbers(1, 2))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert [len(call) for call in calls] == [150, 2]


def test_the_messages_of_a_failed_bundle_run_one_at_a_time(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = declare_stage(broker, fails_for=3)
    enqueue(broker, "stage", *numbers(*range(5)))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls[:6] == [[0, 1, 2, 3, 4], [0], [1], [2], [3], [4]]
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    message = msgspec.json.decode(dead)
    assert message["args"] == [{"n": 3}]
    assert message["options"]["request_id"] == "the-request"
    assert depth(broker) == 0


def test_each_message_of_a_split_bundle_has_an_id_of_its_own(broker: RedisBroker) -> None:
    declare_stage(broker)
    enqueue(broker, "stage", *numbers(*range(3)))
    (entry_id,) = broker.client.lrange("eventpulse:stage", 0, -1)
    consumer = Consumer(broker, "stage", 100, 1, 50)
    batch = lease(consumer)
    batch.needs_split = True
    consumer.ack(batch)
    ids = []
    for _ in range(3):
        single = lease(consumer)
        ids.append(single.message_id)
        consumer.ack(single)
    assert ids == [f"{position}.{entry_id.decode()}" for position in (1, 2, 3)]


def test_only_the_message_that_crashes_its_workers_is_dead_lettered(broker: RedisBroker) -> None:
    """Each worker that leases the number 1 crashes."""
    declare_stage(broker)
    enqueue(broker, "stage", *numbers(0, 1, 2))
    processed, crashes = [], 0
    while depth(broker):
        worker = Consumer(broker, "stage", 100, 1, 50)
        batch = lease(worker)
        values = [number_of(argument) for argument in batch.args]
        if 1 in values:
            crashes += 1
            broker.recover(timeout_ms=0)
        else:
            processed += values
            worker.ack(batch)
            worker.close()
    assert processed == [0, 2]
    assert crashes == 4  # two with the whole bundle, of which the message carries over one
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    assert msgspec.json.decode(dead)["args"] == [{"n": 1}]
    assert not broker.client.exists("eventpulse:stage.crashes")


def isolate_bundle(broker: RedisBroker, *values: int) -> str:
    """Enqueue a bundle and isolate it; return its id."""
    enqueue(broker, "stage", *numbers(*values))
    consumer = Consumer(broker, "stage", 100, 1, 50)
    batch = lease(consumer)
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
    assert [number_of(argument) for argument in lease(Consumer(broker, "stage", 100, 1, 50)).args] == [1]


def test_a_bundle_is_split_once_by_two_consumers(broker: RedisBroker) -> None:
    declare_stage(broker)
    bundle_id = isolate_bundle(broker, 1, 2)
    data = broker.client.hget("eventpulse:stage.msgs", bundle_id)
    assert data is not None
    parts = split_bundle(bundle_id, data)
    assert broker.run_script("split", "stage", bundle_id, parts) == 2
    assert broker.run_script("split", "stage", bundle_id, parts) == 0
    assert broker.client.lrange("eventpulse:stage.isolated", 0, -1) == [name.encode() for name, _ in parts]
    assert depth(broker) == 2


def test_an_unreadable_record_is_dead_lettered_and_the_others_of_its_bundle_run(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    calls = declare_stage(broker)
    ((entry_id, data),) = make_bundles("stage", make_records(numbers(0, 1, 2), {}), 250)
    accept(broker, "stage", Bundle(entry_id, data.replace(b'{"n":1}', b"\xff\xfe")))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls == [[0], [2]]
    assert broker.client.zrange("eventpulse:stage.XQ", 0, -1) == [f"2.{entry_id}".encode()]


def test_a_bundle_with_an_unreadable_head_is_dead_lettered_record_by_record(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    calls = declare_stage(broker)
    ((entry_id, data),) = make_bundles("stage", make_records(numbers(0, 1), {}), 250)
    accept(broker, "stage", Bundle(entry_id, b"\xff" + data))
    enqueue(broker, "stage", *numbers(7))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls == [[7]]
    assert broker.client.zcard("eventpulse:stage.XQ") == 2
    assert depth(broker) == 0


def test_bytes_that_are_no_bundle_are_dead_lettered_unchanged(broker: RedisBroker, start_worker: StartWorker) -> None:
    declare_stage(broker)
    accept(broker, "stage", Bundle("3*abc", b"\xff\x00 garbage"))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert broker.client.hgetall("eventpulse:stage.XQ.msgs") == {b"1.3*abc": b"\xff\x00 garbage"}
    assert depth(broker) == 0


def test_an_option_with_blanks_survives_a_split(broker: RedisBroker, start_worker: StartWorker) -> None:
    declare_stage(broker, fails_for=1)
    accept(broker, "stage", *make_bundles("stage", make_records(numbers(1, 2), {"note": 'two "words" \\ \n'}), 250))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    assert msgspec.json.decode(dead)["options"]["note"] == 'two "words" \\ \n'


def test_the_message_of_a_bundle_of_one_keeps_its_request_id(broker: RedisBroker, start_worker: StartWorker) -> None:
    declare_stage(broker, fails_for=3)
    enqueue(broker, "stage", *numbers(3))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    assert msgspec.json.decode(dead)["options"]["request_id"] == "the-request"


def test_nothing_is_leased_while_an_isolated_message_runs(broker: RedisBroker) -> None:
    declare_stage(broker)
    isolate_bundle(broker, 1)
    consumer = Consumer(broker, "stage", batch=100, concurrency=2, timeout_ms=20)
    isolated = lease(consumer)
    enqueue(broker, "stage", *numbers(2))
    assert next(consumer) is None
    assert broker.client.llen("eventpulse:stage") == 1
    consumer.ack(isolated)
    assert [number_of(argument) for argument in lease(consumer).args] == [2]


def test_a_released_isolated_message_stays_isolated(broker: RedisBroker) -> None:
    declare_stage(broker)
    isolate_bundle(broker, 1, 2)
    consumer = Consumer(broker, "stage", 100, 1, 50)
    lease(consumer)
    consumer.close()
    assert broker.client.llen("eventpulse:stage.isolated") == 2
    assert broker.client.llen("eventpulse:stage") == 0


def test_an_isolated_id_without_a_message_is_removed(broker: RedisBroker) -> None:
    declare_stage(broker)
    broker.client.rpush("eventpulse:stage.isolated", "3*settled")
    consumer = Consumer(broker, "stage", 100, 1, 20)
    assert next(consumer) is None
    assert not broker.client.exists("eventpulse:stage.isolated", "eventpulse:stage.msgs", "eventpulse:stage.count")


def test_a_consumer_that_closes_releases_a_bundle_unsplit(broker: RedisBroker) -> None:
    declare_stage(broker)
    enqueue(broker, "stage", *numbers(*range(9)))
    consumer = Consumer(broker, "stage", 100, 1, 50)
    lease(consumer)
    consumer.close()
    assert broker.client.llen("eventpulse:stage") == 1
    assert broker.client.zcard(LEASES) == 0
    assert depth(broker) == 9

"""Bundles: messages that came together are one entry of their queue, until one of them is in trouble."""

import dramatiq
import msgspec
from support.broker_factory import StartWorker, number_of, queue, queue_is_empty
from support.waiting import until

from actors.transport.batch import Batch
from actors.transport.consumer import Consumer
from actors.transport.messages import bundles, line
from actors.transport.redis_broker import RedisBroker

LEASES = "eventpulse:__heartbeats__"


def numbered(*numbers: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in numbers]


def stage(broker: RedisBroker, hurts: int | None = None) -> list[list[int]]:
    """A stage that raises for the number that hurts, and the numbers of its calls."""
    calls: list[list[int]] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100)
    def stage(*events: msgspec.Raw) -> None:
        numbers = [number_of(event) for event in events]
        calls.append(numbers)
        if hurts in numbers:
            raise ValueError("this number hurts")

    return calls


def taken(consumer: Consumer) -> Batch:
    batch = until(lambda: next(consumer))
    assert isinstance(batch, Batch)
    return batch


def depth(broker: RedisBroker) -> int:
    return int(broker.client.get("eventpulse:stage.count") or 0)


def test_a_bundle_is_one_entry_and_one_call(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = stage(broker)
    queue(broker, "stage", *numbered(*range(60)))
    assert broker.client.llen("eventpulse:stage") == 1
    assert depth(broker) == 60
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls == [[*range(60)]]
    assert depth(broker) == 0


def test_a_batch_is_never_larger_than_asked_for(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = stage(broker)
    for _ in range(5):
        queue(broker, "stage", *numbered(*range(40)))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert [len(call) for call in calls] == [80, 80, 40]


def test_a_bundle_larger_than_a_batch_is_taken_alone(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = stage(broker)
    queue(broker, "stage", *numbered(*range(150)))
    queue(broker, "stage", *numbered(1, 2))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert [len(call) for call in calls] == [150, 2]


def test_a_bundle_that_fails_is_taken_apart(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = stage(broker, hurts=3)
    queue(broker, "stage", *numbered(*range(5)))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls[:6] == [[0, 1, 2, 3, 4], [0], [1], [2], [3], [4]]
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    message = msgspec.json.decode(dead)
    assert message["args"] == [{"n": 3}]
    assert message["options"]["request_id"] == "the-request"
    assert depth(broker) == 0


def test_each_message_of_a_bundle_has_an_id_of_its_own(broker: RedisBroker) -> None:
    stage(broker)
    queue(broker, "stage", *numbered(*range(3)))
    (entry_id,) = broker.client.lrange("eventpulse:stage", 0, -1)
    failed = Consumer(broker, "stage", 100, 1, 50)
    batch = taken(failed)
    batch.needs_split = True
    failed.ack(batch)
    ids = []
    for _ in range(3):
        single = taken(failed)
        ids.append(single.message_id)
        failed.ack(single)
    assert ids == [f"{place}.{entry_id.decode()}" for place in (1, 2, 3)]


def test_of_a_bundle_that_kills_its_workers_only_the_killer_dies(broker: RedisBroker) -> None:
    """Whoever is given the number 1 dies of it."""
    stage(broker)
    queue(broker, "stage", *numbered(0, 1, 2))
    survived, deaths = [], 0
    while depth(broker):
        worker = Consumer(broker, "stage", 100, 1, 50)
        batch = taken(worker)
        numbers = [number_of(event) for event in batch.args]
        if 1 in numbers:
            deaths += 1
            broker.recover(timeout_ms=0)
        else:
            survived += numbers
            worker.ack(batch)
            worker.close()
    assert survived == [0, 2]
    assert deaths == 4  # two with the whole bundle, of which its part inherits one
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    assert msgspec.json.decode(dead)["args"] == [{"n": 1}]
    assert not broker.client.exists("eventpulse:stage.crashes")


def test_an_unreadable_line_is_quarantined_and_its_bundle_goes_on(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    calls = stage(broker)
    ((entry_id, data),) = bundles("stage", [line(event, None) for event in numbered(0, 1, 2)], 250)
    broken = data.replace(b'{"n":1}', b"\xff\xfe")
    broker.run_script("accept", "stage", 100, 100, entry_id, broken)
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls == [[0], [2]]
    assert broker.client.zrange("eventpulse:stage.XQ", 0, -1) == [f"2.{entry_id}".encode()]


def test_a_bundle_with_an_unreadable_head_dies_line_by_line(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls = stage(broker)
    ((entry_id, data),) = bundles("stage", [line(event, None) for event in numbered(0, 1)], 250)
    broker.run_script("accept", "stage", 100, 100, entry_id, b"\xff" + data)
    queue(broker, "stage", *numbered(7))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert calls == [[7]]
    assert broker.client.zcard("eventpulse:stage.XQ") == 2
    assert depth(broker) == 0


def test_bytes_that_are_no_bundle_are_kept_among_the_dead(broker: RedisBroker, start_worker: StartWorker) -> None:
    stage(broker)
    broker.run_script("accept", "stage", 100, 100, "3*abc", b"\xff\x00 garbage")
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert broker.client.hgetall("eventpulse:stage.XQ.msgs") == {b"1.3*abc": b"\xff\x00 garbage"}
    assert depth(broker) == 0


def test_a_bundle_of_one_keeps_its_request(broker: RedisBroker, start_worker: StartWorker) -> None:
    stage(broker, hurts=3)
    queue(broker, "stage", *numbered(3))
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    assert msgspec.json.decode(dead)["options"]["request_id"] == "the-request"


def test_nothing_is_taken_beside_a_suspect(broker: RedisBroker) -> None:
    stage(broker)
    queue(broker, "stage", *numbered(1))
    consumer = Consumer(broker, "stage", batch=100, concurrency=2, timeout_ms=20)
    batch = taken(consumer)
    batch.needs_split = True
    consumer.ack(batch)
    suspect = taken(consumer)
    queue(broker, "stage", *numbered(2))
    assert next(consumer) is None
    assert broker.client.llen("eventpulse:stage") == 1
    consumer.ack(suspect)
    assert [number_of(event) for event in taken(consumer).args] == [2]


def test_a_suspect_that_is_given_back_stays_one(broker: RedisBroker) -> None:
    stage(broker)
    queue(broker, "stage", *numbered(1, 2))
    consumer = Consumer(broker, "stage", 100, 1, 50)
    batch = taken(consumer)
    batch.needs_split = True
    consumer.ack(batch)
    taken(consumer)
    consumer.close()
    assert broker.client.llen("eventpulse:stage.isolated") == 2
    assert broker.client.llen("eventpulse:stage") == 0


def test_a_suspect_that_was_settled_meanwhile_is_nothing(broker: RedisBroker) -> None:
    stage(broker)
    broker.client.rpush("eventpulse:stage.isolated", "3*gone")
    consumer = Consumer(broker, "stage", 100, 1, 20)
    assert next(consumer) is None
    assert not broker.client.exists("eventpulse:stage.isolated", "eventpulse:stage.msgs", "eventpulse:stage.count")


def test_an_orderly_stop_gives_a_bundle_back_whole(broker: RedisBroker) -> None:
    stage(broker)
    queue(broker, "stage", *numbered(*range(9)))
    consumer = Consumer(broker, "stage", 100, 1, 50)
    taken(consumer)
    consumer.close()
    assert broker.client.llen("eventpulse:stage") == 1
    assert broker.client.zcard(LEASES) == 0
    assert depth(broker) == 9

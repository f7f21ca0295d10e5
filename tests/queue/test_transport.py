"""The broker, driven by Dramatiq's own worker over a real Redis, with actors made for the test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import dramatiq
import msgspec
import pytest
import redis
from dramatiq.middleware import CurrentMessage
from waiting import until

from actors.batching import Consumer
from actors.guards import LogContext, PatientRetries, Stopping, Transactional
from actors.messages import encode_events
from actors.transport import RedisBroker

StartWorker = Callable[[], dramatiq.Worker]


@pytest.fixture
def broker(redis_url: str, redis_client: redis.Redis) -> RedisBroker:
    """A broker like the product's, that retries at once."""
    made = RedisBroker(
        [
            Stopping(),
            LogContext(),
            CurrentMessage(),
            PatientRetries(max_retries=2, min_backoff=1, max_backoff=5),
            Transactional(),
        ]
    )
    made.connect(redis_url)
    return made


@pytest.fixture
def start_worker(broker: RedisBroker) -> Iterator[StartWorker]:
    with ExitStack() as stack:

        def start() -> dramatiq.Worker:
            worker = dramatiq.Worker(broker, worker_threads=4, worker_timeout=50)
            worker.start()
            stack.callback(worker.stop, 5_000)
            return worker

        yield start


def numbers(broker: RedisBroker, actor: str, count: int) -> None:
    """Queue `count` messages, each with its number."""
    events = [b'{"n":%d}' % n for n in range(count)]
    broker.scripts["accept"](
        keys=[broker.namespace], args=[actor, 10**6, 100, *encode_events(actor, events, [None] * count)]
    )


def queue_is_empty(broker: RedisBroker, *queues: str) -> bool:
    return not any(broker.client.exists(f"{broker.namespace}:{queue}.msgs") for queue in queues)


def number_of(event: msgspec.Raw) -> int:
    return int(msgspec.json.decode(event)["n"])


def test_messages_are_processed_in_batches(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls: list[list[int]] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100, concurrency=2)
    def stage(*events: msgspec.Raw) -> None:
        calls.append([number_of(event) for event in events])

    numbers(broker, "stage", 250)
    start_worker()
    until(lambda: queue_is_empty(broker, "stage"))
    assert sorted(n for call in calls for n in call) == list(range(250))
    assert sorted(len(call) for call in calls) == [50, 100, 100]


def test_a_poison_message_is_dead_lettered_alone(broker: RedisBroker, start_worker: StartWorker) -> None:
    done: set[int] = set()

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100, concurrency=2)
    def stage(*events: msgspec.Raw) -> None:
        found = {number_of(event) for event in events}
        if found & {3, 77}:
            raise ValueError("this number hurts")
        done.update(found)

    numbers(broker, "stage", 100)
    start_worker()
    until(lambda: queue_is_empty(broker, "stage"))
    assert done == set(range(100)) - {3, 77}
    dead = broker.client.hvals("eventpulse:stage.XQ.msgs")
    assert {msgspec.json.decode(message)["args"][0]["n"] for message in dead} == {3, 77}
    assert set(broker.client.hvals("eventpulse:stage.XQ.why")) == {b"ValueError: this number hurts"}


def test_a_dead_letter_has_its_last_traceback_and_count(broker: RedisBroker, start_worker: StartWorker) -> None:
    attempts = iter(range(10))

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*events: msgspec.Raw) -> None:
        raise ValueError(f"attempt {next(attempts)}")

    numbers(broker, "stage", 1)
    start_worker()
    until(lambda: queue_is_empty(broker, "stage"))
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    options = msgspec.json.decode(dead)["options"]
    assert options["retries"] == 3
    assert "ValueError: attempt 2" in options["traceback"]


def test_an_unreadable_message_is_quarantined_and_its_neighbours_go_on(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    done: set[int] = set()

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100)
    def stage(*events: msgspec.Raw) -> None:
        done.update(number_of(event) for event in events)

    numbers(broker, "stage", 5)
    broker.scripts["enqueue"](keys=[broker.namespace], args=["stage", "garbage", b"\xff not JSON", 0])
    numbers(broker, "stage", 5)
    start_worker()
    until(lambda: queue_is_empty(broker, "stage"))
    assert done == set(range(5))
    assert broker.client.hgetall("eventpulse:stage.XQ.msgs") == {b"garbage": b"\xff not JSON"}


def test_what_an_actor_sends_leaves_with_its_acknowledgement(broker: RedisBroker, start_worker: StartWorker) -> None:
    waiting_before_ack: list[int] = []
    received: list[str] = []

    @dramatiq.actor(broker=broker, queue_name="next", actor_name="next")
    def follow_up(word: str) -> None:
        received.append(word)

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*events: msgspec.Raw) -> None:
        follow_up.send("after")
        waiting_before_ack.append(broker.client.hlen("eventpulse:next.msgs"))

    numbers(broker, "stage", 1)
    start_worker()
    until(lambda: received)
    assert received == ["after"]
    assert waiting_before_ack == [0]


def test_a_failed_attempt_sends_nothing(broker: RedisBroker, start_worker: StartWorker) -> None:
    received: list[str] = []
    attempts = iter(range(10))

    @dramatiq.actor(broker=broker, queue_name="next", actor_name="next")
    def follow_up(word: str) -> None:
        received.append(word)

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*events: msgspec.Raw) -> None:
        follow_up.send("sent")
        if next(attempts) == 0:
            raise ValueError("the first attempt fails after it sent")

    numbers(broker, "stage", 1)
    start_worker()
    until(lambda: received and queue_is_empty(broker, "stage", "next"))
    assert received == ["sent"]


def test_an_orderly_stop_gives_back_what_was_leased(broker: RedisBroker, start_worker: StartWorker) -> None:
    started, finish = threading.Event(), threading.Event()

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10, concurrency=2)
    def stage(*events: msgspec.Raw) -> None:
        started.set()
        assert finish.wait(5)

    consumer = Consumer(broker, "stage", 10, 2, 50)
    numbers(broker, "stage", 10)
    assert next(consumer) is not None
    assert broker.client.llen("eventpulse:stage") == 0
    consumer.close()
    assert broker.client.llen("eventpulse:stage") == 10
    assert broker.client.zcard("eventpulse:__heartbeats__") == 0
    finish.set()


def leased(broker: RedisBroker, count: int) -> Consumer:
    """A consumer that leased `count` messages and is not heard of again."""

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100)
    def stage(*events: msgspec.Raw) -> None: ...

    numbers(broker, "stage", count)
    consumer = Consumer(broker, "stage", 100, 1, 50)
    assert next(consumer) is not None
    return consumer


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


def test_a_delayed_message_waits_in_redis_and_runs_when_due(broker: RedisBroker, start_worker: StartWorker) -> None:
    received: list[str] = []

    @dramatiq.actor(broker=broker, queue_name="later", actor_name="later")
    def later(word: str) -> None:
        received.append(word)

    later.send_with_options(args=("tomorrow",), delay=86_400_000)
    later.send_with_options(args=("soon",), delay=20)
    start_worker()
    until(lambda: received)
    assert received == ["soon"]
    assert broker.client.zcard("eventpulse:later.delayed") == 1


def test_the_backlog_has_a_high_water_mark(broker: RedisBroker) -> None:
    def accept(count: int, most: int) -> int:
        messages = encode_events("persist", [b"{}"] * count, [None] * count)
        return int(broker.scripts["accept"](keys=[broker.namespace], args=["persist", most, 80, *messages]))

    assert accept(5, most=6) == 5
    assert accept(5, most=6) == 5
    assert accept(1, most=6) == -1
    assert broker.client.llen("eventpulse:persist") == 10


def test_a_full_redis_takes_no_more_events(broker: RedisBroker) -> None:
    def accept() -> int:
        broker.client.delete("eventpulse:full")
        return int(
            broker.scripts["accept"](
                keys=[broker.namespace], args=["persist", 100, 80, *encode_events("persist", [b"{}"], [None])]
            )
        )

    used = int(broker.client.info("memory")["used_memory"])
    try:
        broker.client.config_set("maxmemory", used * 10)
        assert accept() == 1
        broker.client.config_set("maxmemory", int(used * 1.2))
        assert accept() == -2
    finally:
        broker.client.config_set("maxmemory", 0)

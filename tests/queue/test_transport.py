"""The broker, driven by Dramatiq's own worker over a real Redis, with actors made for the test."""

import dramatiq
import msgspec
from dramatiq.message import Message
from structlog.contextvars import get_contextvars
from support.broker_factory import StartWorker, number_of, numbers, queue_is_empty
from support.waiting import until

from actors.transport.redis_broker import RedisBroker


def test_messages_are_processed_in_batches(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls: list[list[int]] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100, concurrency=2)
    def stage(*events: msgspec.Raw) -> None:
        calls.append([number_of(event) for event in events])

    numbers(broker, "stage", 250)
    start_worker(broker)
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
    start_worker(broker)
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
    start_worker(broker)
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
    broker.run_script("enqueue", "stage", "garbage", b"\xff not JSON", 0)
    numbers(broker, "stage", 5)
    start_worker(broker)
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
    start_worker(broker)
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
    start_worker(broker)
    until(lambda: received and queue_is_empty(broker, "stage", "next"))
    assert received == ["sent"]


def test_a_delayed_message_waits_in_redis_and_runs_when_due(broker: RedisBroker, start_worker: StartWorker) -> None:
    received: list[str] = []

    @dramatiq.actor(broker=broker, queue_name="later", actor_name="later")
    def later(word: str) -> None:
        received.append(word)

    later.send_with_options(args=("tomorrow",), delay=86_400_000)
    later.send_with_options(args=("soon",), delay=20)
    start_worker(broker)
    until(lambda: received)
    assert received == ["soon"]
    assert broker.client.zcard("eventpulse:later.delayed") == 1


def test_what_is_logged_about_a_message_carries_its_ids(broker: RedisBroker, start_worker: StartWorker) -> None:
    seen: list[dict[str, object]] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*events: msgspec.Raw) -> None:
        seen.append(get_contextvars())

    message = Message("stage", "stage", ({"event_id": "the-event"},), {}, {"request_id": "the-request"}, "the-message")
    broker.enqueue(message)
    start_worker(broker)
    until(lambda: seen)
    assert seen == [{"message_id": "the-message", "request_id": "the-request", "event_id": "the-event"}]

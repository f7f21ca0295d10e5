"""Tests of the broker with the worker of Dramatiq and a real Redis; each test declares its actors."""

import dramatiq
import msgspec
import pytest
import redis
from dramatiq.message import Message
from structlog.contextvars import get_contextvars
from support.broker_factory import StartWorker, enqueue_numbers, number_of, queue_is_empty
from support.waiting import until

from actors.outages import retry_on_outage
from actors.transport import queues
from actors.transport.messages import queued_at
from actors.transport.redis_broker import RedisBroker


def declare_next(broker: RedisBroker) -> "tuple[dramatiq.Actor[[str], None], list[str]]":
    """Declare an actor on the queue `next`; return the actor and the list of words that the actor receives."""
    received: list[str] = []

    @dramatiq.actor(broker=broker, queue_name="next", actor_name="next")
    def follow_up(word: str) -> None:
        received.append(word)

    return follow_up, received


def test_messages_are_processed_in_batches(broker: RedisBroker, start_worker: StartWorker) -> None:
    calls: list[list[int]] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100, concurrency=2)
    def stage(*arguments: msgspec.Raw) -> None:
        calls.append([number_of(argument) for argument in arguments])

    enqueue_numbers(broker, "stage", 250)
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert sorted(n for call in calls for n in call) == list(range(250))
    assert sorted(len(call) for call in calls) == [50, 100, 100]


def test_only_the_messages_that_fail_are_dead_lettered(broker: RedisBroker, start_worker: StartWorker) -> None:
    processed: set[int] = set()

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100, concurrency=2)
    def stage(*arguments: msgspec.Raw) -> None:
        numbers = {number_of(argument) for argument in arguments}
        if numbers & {3, 77}:
            raise ValueError("this number fails")
        processed.update(numbers)

    enqueue_numbers(broker, "stage", 100)
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert processed == set(range(100)) - {3, 77}
    dead = broker.client.hvals("eventpulse:stage.XQ.msgs")
    assert {msgspec.json.decode(message)["args"][0]["n"] for message in dead} == {3, 77}
    assert set(broker.client.hvals("eventpulse:stage.XQ.why")) == {b"ValueError: this number fails"}


def test_a_dead_letter_has_its_last_traceback_and_retry_count(broker: RedisBroker, start_worker: StartWorker) -> None:
    attempts = iter(range(10))

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*arguments: msgspec.Raw) -> None:
        raise ValueError(f"attempt {next(attempts)}")

    enqueue_numbers(broker, "stage", 1)
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    (dead,) = broker.client.hvals("eventpulse:stage.XQ.msgs")
    options = msgspec.json.decode(dead)["options"]
    assert options["retries"] == 3
    assert "ValueError: attempt 2" in options["traceback"]


def test_an_unreadable_message_is_dead_lettered_and_the_others_run(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    processed: set[int] = set()

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=100)
    def stage(*arguments: msgspec.Raw) -> None:
        processed.update(number_of(argument) for argument in arguments)

    enqueue_numbers(broker, "stage", 5)
    broker.run_script("enqueue", "stage", "garbage", b"\xff not JSON", 0)
    enqueue_numbers(broker, "stage", 5)
    start_worker(broker)
    until(lambda: queue_is_empty(broker, "stage"))
    assert processed == set(range(5))
    assert broker.client.hgetall("eventpulse:stage.XQ.msgs") == {b"garbage": b"\xff not JSON"}


def test_a_message_that_an_actor_sends_is_enqueued_with_the_acknowledgement(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    stored_before_ack: list[int] = []
    follow_up, received = declare_next(broker)

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*arguments: msgspec.Raw) -> None:
        follow_up.send("after")
        stored_before_ack.append(broker.client.hlen("eventpulse:next.msgs"))

    enqueue_numbers(broker, "stage", 1)
    start_worker(broker)
    until(lambda: received)
    assert received == ["after"]
    assert stored_before_ack == [0]


def test_a_failed_attempt_sends_no_message(broker: RedisBroker, start_worker: StartWorker) -> None:
    attempts = iter(range(10))
    follow_up, received = declare_next(broker)

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*arguments: msgspec.Raw) -> None:
        follow_up.send("sent")
        if next(attempts) == 0:
            raise ValueError("the first attempt fails after it sent a message")

    enqueue_numbers(broker, "stage", 1)
    start_worker(broker)
    until(lambda: received and queue_is_empty(broker, "stage", "next"))
    assert received == ["sent"]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_step_that_is_repeated_after_an_outage_sends_each_message_once(
    broker: RedisBroker, start_worker: StartWorker, failures: int
) -> None:
    attempts: list[str] = []
    follow_up, received = declare_next(broker)

    @retry_on_outage
    def send_second() -> None:
        attempts.append("attempt")
        follow_up.send("second")
        if len(attempts) <= failures:
            raise redis.ConnectionError("Redis is unavailable")

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage")
    def stage() -> None:
        follow_up.send("first")
        send_second()

    stage.send()
    start_worker(broker)
    until(lambda: received and queue_is_empty(broker, "stage", "next"))
    assert sorted(received) == ["first", "second"]
    assert len(attempts) == failures + 1


def test_a_delayed_message_waits_in_redis_and_runs_when_it_is_due(
    broker: RedisBroker, start_worker: StartWorker
) -> None:
    follow_up, received = declare_next(broker)
    follow_up.send_with_options(args=("tomorrow",), delay=86_400_000)
    follow_up.send_with_options(args=("soon",), delay=20)
    start_worker(broker)
    until(lambda: received)
    assert received == ["soon"]
    assert broker.client.zcard("eventpulse:next.delayed") == 1


def test_the_age_of_a_queue_starts_when_its_message_was_enqueued_or_due(broker: RedisBroker) -> None:
    """The time before a retry or during a snooze does not count as a delay of the queue."""
    follow_up, _ = declare_next(broker)
    message = follow_up.message("retried")
    broker.enqueue(message.copy(message_timestamp=message.message_timestamp - 3_600_000))
    assert queues.depths(broker)["next"].oldest_age_seconds < 60
    broker.client.flushdb()
    broker.enqueue(message, delay=3_600_000)
    (data,) = broker.client.hvals("eventpulse:next.msgs")
    assert queued_at(data) > message.message_timestamp / 1000 + 3_500


def test_log_lines_about_a_message_have_its_ids(broker: RedisBroker, start_worker: StartWorker) -> None:
    contexts: list[dict[str, object]] = []

    @dramatiq.actor(broker=broker, queue_name="stage", actor_name="stage", batch=10)
    def stage(*arguments: msgspec.Raw) -> None:
        contexts.append(get_contextvars())

    message = Message("stage", "stage", ({"event_id": "the-event"},), {}, {"request_id": "the-request"}, "the-message")
    broker.enqueue(message)
    start_worker(broker)
    until(lambda: contexts)
    assert contexts == [{"message_id": "the-message", "request_id": "the-request", "event_id": "the-event"}]

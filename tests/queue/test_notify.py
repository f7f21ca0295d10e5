"""Deliveries: what becomes of an anomaly on a channel that is well, busy, closed, hanging or dead."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dramatiq
import msgspec
import peewee
import pytest
import redis
import time_machine
from support.broker_factory import StartWorker
from support.pipeline_factory import accept, anomalies, event, idle, rule
from support.waiting import until

from actors import runtime
from actors.broker import broker
from actors.channel_limits import ChannelLimiter
from actors.pipeline import notify
from actors.recovery import dead_letters
from models.anomaly import Anomaly
from models.base import now
from models.channel import Channel
from models.database import connection
from models.delivery import OVERDUE_SECONDS, Delivery
from notifiers.base import Notification, Receipt, TryAgain, Undeliverable


class Moody:
    """A notifier that answers as the test tells it to."""

    def __init__(self, *moods: Exception | str) -> None:
        self.moods = list(moods)
        self.sent: list[Notification] = []

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        self.sent.append(notification)
        mood = self.moods.pop(0)
        if isinstance(mood, Exception):
            raise mood
        return Receipt(mood)


def bind_notifier(kind: str, notifier: Any) -> None:
    """Replace the notifier of one kind in the runtime of this process."""
    bound = runtime.current()
    runtime.bind(replace(bound, notifiers={**bound.notifiers, kind: notifier}))


def announce_through(notifier: Any, start_worker: StartWorker, client: redis.Redis) -> Delivery:
    """Let one anomaly go through the notifier as the only channel; returns its delivery when all is settled."""
    with connection():
        Channel.update(enabled=False).where(Channel.kind == "live").execute()
    bind_notifier("console", notifier)
    rule()
    accept(*[event() for _ in range(3)])
    start_worker()
    until(lambda: idle(client) and anomalies(), 30)
    with connection():
        return Delivery.get()


def test_a_worker_whose_clock_is_ahead_leaves_what_another_is_sending(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    sent = announce_through(Moody("receipt"), start_worker, pipeline)
    key = (sent.anomaly_id, sent.channel_id)
    with connection():
        Delivery.update(status="pending").execute()
        assert Delivery.claim(*key)
        with time_machine.travel(now() + timedelta(seconds=61)):
            assert Delivery.claim(*key) is None
            assert Delivery.overdue() == []


def test_a_channel_that_is_busy_is_tried_again_after_the_time_it_asked_for(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    notifier = Moody(TryAgain("busy", after_seconds=0.05), "receipt")
    delivery = announce_through(notifier, start_worker, pipeline)
    assert (delivery.status, delivery.attempts, delivery.receipt) == ("delivered", 2, "receipt")


def test_a_channel_that_refuses_is_not_tried_again(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    delivery = announce_through(Moody(Undeliverable("no such webhook")), start_worker, pipeline)
    assert (delivery.status, delivery.attempts, delivery.last_error) == ("rejected", 1, "no such webhook")


def test_a_channel_that_never_answers_ends_as_a_dead_letter(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(notify.notify.options, "max_retries", 1)
    announce_through(Moody(*[TryAgain("away", after_seconds=0.01)] * 2), start_worker, pipeline)
    assert dead_letters.reconcile() == 1
    with connection():
        assert (Delivery.get().status, Delivery.get().last_error) == ("dead", "Retry: away")
    (letter,) = dead_letters.list_(10)
    assert letter.actor_name == "notify"
    assert broker.client.zcard("eventpulse:notify.XQ") == 0


class Hanging:
    """A notifier that does not come back until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        assert self.let_go.wait(30)
        return Receipt("at last")


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    notifier = Hanging()
    yield notifier
    notifier.let_go.set()


def test_a_channel_that_hangs_delays_no_other(
    pipeline: redis.Redis, start_worker: StartWorker, hanging: Hanging
) -> None:
    bind_notifier("console", hanging)
    rule(condition={"type": "threshold", "operator": ">=", "value": 1, "group_by": ["payload.n"]})
    accept(*[event(payload={"n": n}) for n in range(20)])
    start_worker()

    def delivered_live() -> bool:
        with connection():
            done = Delivery.select().where(Delivery.channel_name == "live", Delivery.status == "delivered")
            return bool(done.count() == 20)

    until(delivered_live)
    hanging.let_go.set()
    until(lambda: idle(pipeline), 30)
    with connection():
        assert {delivery.status for delivery in Delivery.select()} == {"delivered"}


def test_a_notification_lost_with_its_worker_is_sent_all_the_same(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    """The anomaly was recorded; its notifications were not queued yet, and no event finds it again."""
    notifier = Moody("receipt")
    delivery = announce_through(notifier, start_worker, pipeline)
    assert delivery.status == "delivered"
    with connection():
        Delivery.update(status="pending", due_at=now() - timedelta(seconds=OVERDUE_SECONDS + 1)).execute()
    notifier.moods.append("again")
    assert notify.requeue_overdue() == 1
    assert notify.requeue_overdue() == 0
    until(lambda: idle(pipeline))
    with connection():
        assert Delivery.get().receipt == "again"


def test_a_claim_that_was_cut_off_is_no_claim(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL goes away when the claim is made and its anomaly not read yet."""
    read = Anomaly.get_by_id
    cut: list[str] = []

    def cut_off_once(anomaly_id: object) -> Anomaly:
        if not cut:
            cut.append("once")
            raise peewee.OperationalError("server closed the connection unexpectedly")
        return read(anomaly_id)

    monkeypatch.setattr(Anomaly, "get_by_id", cut_off_once)
    delivery = announce_through(Moody("receipt"), start_worker, pipeline)
    assert cut
    assert (delivery.status, delivery.attempts) == ("delivered", 1)


def test_what_a_dead_worker_was_sending_is_sent_when_its_claim_runs_out(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    notifier = Moody("receipt", "again")
    announce_through(notifier, start_worker, pipeline)
    with connection():
        Delivery.update(status="sending", due_at=now() + timedelta(seconds=1)).execute()
        delivery = Delivery.get()
    notify.notify.send(str(delivery.anomaly_id), str(delivery.channel_id))
    until(lambda: idle(pipeline))
    with connection():
        assert Delivery.get().receipt == "again"


def test_nothing_counts_as_lost_while_the_queue_is_behind(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    notifier = Moody("receipt", *["again"] * 9)
    started: list[dramatiq.Worker] = []
    announce_through(notifier, lambda: started.append(start_worker()), pipeline)
    started[0].stop(5_000)
    with connection():
        Delivery.update(status="pending", due_at=now() - timedelta(seconds=OVERDUE_SECONDS + 1)).execute()
        delivery = Delivery.get()
    waits = notify.notify.message(str(delivery.anomaly_id), str(delivery.channel_id))
    broker.enqueue(waits.copy(message_timestamp=waits.message_timestamp - 3_600_000))
    assert notify.requeue_overdue() == 0
    start_worker()
    until(lambda: idle(pipeline))
    with connection():
        assert Delivery.get().receipt == "again"


def test_a_failing_channel_is_left_alone_for_longer_each_time() -> None:
    traffic = ChannelLimiter()
    pauses = []
    for _ in range(3):
        traffic.acquire("channel")
        pauses.append(traffic.release("channel", failed=True, after_seconds=None))
    assert pauses == [2.0, 4.0, 8.0]
    assert traffic.acquire("channel") > 7
    assert traffic.acquire("another") == 0


def test_a_channel_is_left_alone_for_as_long_as_anyone_was_told() -> None:
    traffic = ChannelLimiter()
    assert traffic.acquire("channel") == traffic.acquire("channel") == 0
    traffic.release("channel", failed=True, after_seconds=60)
    traffic.release("channel", failed=True, after_seconds=1)
    assert traffic.acquire("channel") > 50


def test_two_sends_to_a_channel_are_under_way_at_most() -> None:
    traffic = ChannelLimiter()
    assert traffic.acquire("channel") == traffic.acquire("channel") == 0
    assert 0 < traffic.acquire("channel") < 1
    traffic.release("channel")
    assert traffic.acquire("channel") == 0


@pytest.mark.parametrize(
    "message",
    [
        b'{"actor_name":"notify","args":["no","ids"],"options":{}}',
        b'{"actor_name":"notify","args":[],"options":[]}',
        b'{"actor_name":5,"args":[{"event_id":5}],"options":{"request_id":"a\\u0000b"}}',
        b'{"actor_name":"persist","args":[{}],"options":{"request_id":"a\\u0000b","traceback":"\\u0000"}}',
        b"[]",
        b"[" * 100_000,
        b"",
    ],
)
def test_whatever_died_is_kept_and_stops_nobody(pipeline: redis.Redis, message: bytes) -> None:
    for name, data in (("strange", message), ("plain", msgspec.json.encode({"actor_name": "gone"}))):
        pipeline.zadd("eventpulse:notify.XQ", {name: 1})
        pipeline.hset("eventpulse:notify.XQ.msgs", name, data)
    assert dead_letters.reconcile() == 2
    assert {bytes(letter.message) for letter in dead_letters.list_(10)} >= {message}

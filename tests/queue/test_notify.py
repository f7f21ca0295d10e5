"""Tests of the delivery of anomalies to channels that are healthy, busy, unresponsive or failing."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dramatiq
import peewee
import pytest
import redis
import time_machine
from support.broker_factory import StartWorker
from support.pipeline_factory import accept, anomalies, event, idle, rule
from support.waiting import until

from actors import runtime
from actors.broker import broker
from actors.pipeline import notify
from actors.recovery import dead_letters, overdue_deliveries
from models.anomaly import Anomaly
from models.base import now
from models.channel import Channel
from models.database import connection
from models.delivery import OVERDUE_SECONDS, Delivery
from notifiers.base import Notification, Receipt, TryAgain, Undeliverable

OVERDUE = timedelta(seconds=OVERDUE_SECONDS + 1)


class ScriptedNotifier:
    """Notifier that returns or raises the given outcomes, one for each call."""

    def __init__(self, *outcomes: Exception | Receipt) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[Notification] = []

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        self.sent.append(notification)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def bind_notifier(kind: str, notifier: Any) -> None:
    """Replace the notifier of one kind in the runtime of this process."""
    bound = runtime.current()
    runtime.bind(replace(bound, notifiers={**bound.notifiers, kind: notifier}))


def announce_through(notifier: Any, start_worker: StartWorker, client: redis.Redis, **rule_fields: Any) -> Delivery:
    """Cause an anomaly, announce it through this notifier only, and return its delivery after all queues are empty."""
    with connection():
        Channel.update(enabled=False).where(Channel.kind == "live").execute()
    bind_notifier("console", notifier)
    rule(**rule_fields)
    accept(*[event() for _ in range(3)])
    start_worker()
    until(lambda: idle(client) and anomalies(), 30)
    return the_delivery()


def the_delivery() -> Delivery:
    """Return the only delivery in PostgreSQL."""
    with connection():
        delivery: Delivery = Delivery.get()
        return delivery


def notify_again(delivery: Delivery) -> None:
    """Enqueue another message for a delivery."""
    notify.notify.send(str(delivery.anomaly_id), str(delivery.channel_id))


def test_a_receipt_is_recorded_with_its_reference(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    delivery = announce_through(ScriptedNotifier(Receipt("200 ok", "1700000000.000100")), start_worker, pipeline)
    assert (delivery.status, delivery.receipt, delivery.reference) == ("delivered", "200 ok", "1700000000.000100")


def test_a_notification_has_the_runbook_of_its_rule(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    notifier = ScriptedNotifier(Receipt("ok"))
    announce_through(notifier, start_worker, pipeline, runbook_url="https://wiki.example/orders")
    assert notifier.sent[0].runbook_url == "https://wiki.example/orders"


def test_a_worker_whose_clock_is_ahead_does_not_take_a_claim_of_another_worker(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    sent = announce_through(ScriptedNotifier(Receipt("ok")), start_worker, pipeline)
    key = (sent.anomaly_id, sent.channel_id)
    with connection():
        Delivery.update(status="pending").execute()
        assert Delivery.claim(*key)
        with time_machine.travel(now() + timedelta(seconds=61)):
            assert Delivery.claim(*key) is None
            assert Delivery.take_overdue() == []


def test_a_busy_channel_is_retried_after_the_requested_time(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    notifier = ScriptedNotifier(TryAgain("busy", after_seconds=0.05), Receipt("ok"))
    delivery = announce_through(notifier, start_worker, pipeline)
    assert (delivery.status, delivery.attempts, delivery.receipt) == ("delivered", 2, "ok")


def test_a_channel_that_rejects_is_not_retried(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    delivery = announce_through(ScriptedNotifier(Undeliverable("no such webhook")), start_worker, pipeline)
    assert (delivery.status, delivery.attempts, delivery.last_error) == ("rejected", 1, "no such webhook")


def test_a_delivery_without_retries_left_becomes_a_dead_letter(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(notify.notify.options, "max_retries", 1)
    announce_through(ScriptedNotifier(*[TryAgain("timeout", after_seconds=0.01)] * 2), start_worker, pipeline)
    assert dead_letters.reconcile() == 1
    assert (the_delivery().status, the_delivery().last_error) == ("dead", "Retry: timeout")
    (letter,) = dead_letters.list_(10)
    assert letter.actor_name == "notify"
    assert broker.client.zcard("eventpulse:notify.XQ") == 0


def test_an_exception_of_a_notifier_pauses_its_channel_and_is_retried(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(notify.notify.options, "max_retries", 0)
    sent = announce_through(ScriptedNotifier(ValueError("a bug")), start_worker, pipeline)
    assert runtime.current().limiter.acquire(str(sent.channel_id)) > 0.5


def test_a_message_whose_delivery_is_settled_leaves_the_failures_of_the_channel_unchanged(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    delivery = announce_through(ScriptedNotifier(Receipt("ok")), start_worker, pipeline)
    limiter, channel_id = runtime.current().limiter, str(delivery.channel_id)
    limiter.record_failure(channel_id, after_seconds=0.01)
    notify_again(delivery)
    until(lambda: idle(pipeline))
    assert limiter.acquire(channel_id) == 0
    assert limiter.acquire(channel_id) > 0, "two sends at the same time after a failure"


class BlockingNotifier:
    """Notifier that returns after `release` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        assert self.release.wait(30)
        return Receipt("ok")


@pytest.fixture
def blocking() -> Iterator[BlockingNotifier]:
    notifier = BlockingNotifier()
    yield notifier
    notifier.release.set()


def test_an_unresponsive_channel_does_not_delay_another(
    pipeline: redis.Redis, start_worker: StartWorker, blocking: BlockingNotifier
) -> None:
    bind_notifier("console", blocking)
    rule(condition={"type": "threshold", "operator": ">=", "value": 1, "group_by": ["payload.n"]})
    accept(*[event(payload={"n": n}) for n in range(20)])
    start_worker()

    def delivered_live() -> bool:
        with connection():
            done = Delivery.select().where(Delivery.channel_name == "live", Delivery.status == "delivered")
            return bool(done.count() == 20)

    until(delivered_live)
    blocking.release.set()
    until(lambda: idle(pipeline), 30)
    with connection():
        assert {delivery.status for delivery in Delivery.select()} == {"delivered"}


def test_a_delivery_whose_message_was_lost_is_requeued(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    """A worker may crash after it has recorded an anomaly and before it has enqueued the notification."""
    notifier = ScriptedNotifier(Receipt("first"))
    assert announce_through(notifier, start_worker, pipeline).status == "delivered"
    with connection():
        Delivery.update(status="pending", due_at=now() - OVERDUE).execute()
    notifier.outcomes.append(Receipt("second"))
    assert overdue_deliveries.requeue() == 1
    assert overdue_deliveries.requeue() == 0
    until(lambda: idle(pipeline))
    assert the_delivery().receipt == "second"


def test_an_outage_during_the_claim_rolls_the_claim_back(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL becomes unavailable after the UPDATE of the claim and before the anomaly is read."""
    read = Anomaly.get_by_id
    failures: list[str] = []

    def fail_once(anomaly_id: object) -> Anomaly:
        if not failures:
            failures.append("once")
            raise peewee.OperationalError("server closed the connection unexpectedly")
        return read(anomaly_id)

    monkeypatch.setattr(Anomaly, "get_by_id", fail_once)
    delivery = announce_through(ScriptedNotifier(Receipt("ok")), start_worker, pipeline)
    assert failures
    assert (delivery.status, delivery.attempts) == ("delivered", 1)


def test_a_delivery_claimed_by_a_lost_worker_is_sent_after_its_claim_expires(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    announce_through(ScriptedNotifier(Receipt("first"), Receipt("second")), start_worker, pipeline)
    with connection():
        Delivery.update(status="sending", due_at=now() + timedelta(seconds=1)).execute()
    notify_again(the_delivery())
    until(lambda: idle(pipeline))
    assert the_delivery().receipt == "second"


def test_no_delivery_counts_as_lost_while_the_queue_is_behind(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    notifier = ScriptedNotifier(Receipt("first"), *[Receipt("second")] * 9)
    started: list[dramatiq.Worker] = []
    announce_through(notifier, lambda: started.append(start_worker()), pipeline)
    started[0].stop(5_000)
    with connection():
        Delivery.update(status="pending", due_at=now() - OVERDUE).execute()
    delivery = the_delivery()
    queued = notify.notify.message(str(delivery.anomaly_id), str(delivery.channel_id))
    old = queued.copy(message_timestamp=queued.message_timestamp - 3_600_000)
    broker.run_script("enqueue", "notify", "an-id", old.encode(), 0)
    assert overdue_deliveries.requeue() == 0
    start_worker()
    until(lambda: idle(pipeline))
    assert the_delivery().receipt == "second"

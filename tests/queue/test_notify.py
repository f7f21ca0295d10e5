"""Deliveries: what becomes of an anomaly on a channel that is well, busy, closed or dead."""

import redis
from making import accept, anomalies, event, idle, rule
from staging import StartWorker
from waiting import until

import actors
from actors import dead_letters, notify
from models.channel import Channel
from models.database import connection
from models.delivery import Delivery
from notifiers.base import Notification, TryAgain, Undeliverable


class Moody:
    """A notifier that answers as the test tells it to."""

    secrets = frozenset[str]()

    def __init__(self, *moods: Exception | str) -> None:
        self.moods = list(moods)
        self.sent: list[Notification] = []

    def send(self, notification: Notification, settings: object) -> str:
        self.sent.append(notification)
        mood = self.moods.pop(0)
        if isinstance(mood, Exception):
            raise mood
        return mood


def announce_through(notifier: Moody, start_worker: StartWorker, client: redis.Redis) -> Delivery:
    """Let one anomaly go through the notifier as the only channel; returns its delivery when all is settled."""
    with connection():
        Channel.update(enabled=False).where(Channel.kind == "live").execute()
    notify.NOTIFIERS["console"] = notifier  # type: ignore[assignment]
    rule()
    accept(*[event() for _ in range(3)])
    start_worker()
    until(lambda: idle(client) and anomalies(), 30)
    with connection():
        return Delivery.get()


def test_a_channel_that_is_busy_is_tried_again_after_the_time_it_asked_for(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    notifier = Moody(TryAgain("busy", after_seconds=0.05), "receipt")
    delivery = announce_through(notifier, start_worker, pipeline)
    assert (delivery.status, delivery.attempts, delivery.receipt) == ("delivered", 2, "receipt")


def test_a_channel_that_refuses_is_not_tried_again(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    delivery = announce_through(Moody(Undeliverable("no such webhook")), start_worker, pipeline)
    assert (delivery.status, delivery.attempts, delivery.last_error) == ("refused", 1, "no such webhook")


def test_a_channel_that_never_answers_ends_as_a_dead_letter(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    notify.notify.options["max_retries"] = 1
    try:
        announce_through(Moody(*[TryAgain("away", after_seconds=0.01)] * 9), start_worker, pipeline)
    finally:
        notify.notify.options["max_retries"] = 8
    assert dead_letters.reconcile() == 1
    with connection():
        assert (Delivery.get().status, Delivery.get().last_error) == ("dead", "dramatiq.errors.Retry: away")
    (letter,) = dead_letters.list_(10)
    assert letter.actor_name == "notify"
    assert actors.broker.client.zcard("eventpulse:notify.XQ") == 0

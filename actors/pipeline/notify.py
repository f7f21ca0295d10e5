"""Announce one anomaly on one channel."""

from collections.abc import Callable
from uuid import UUID

import dramatiq
import structlog

from actors import runtime
from actors.broker import broker
from actors.outages import retry_on_outage
from actors.pipeline.notification import compose
from actors.transport import queues
from actors.transport.batch import current_batch
from models.anomaly import Anomaly
from models.channel import Channel
from models.database import connection, database
from models.delivery import OVERDUE_SECONDS, Delivery
from notifiers.base import Receipt, TryAgain, Undeliverable

log = structlog.get_logger()

#: How soon a delivery that somebody else is at is looked at again.
LOOK_AGAIN_SECONDS = 1.0


@dramatiq.actor(queue_name="notify", concurrency=8, max_retries=15)
def notify(anomaly_id: str, channel_id: str) -> None:
    """Deliver one anomaly to one channel, unless the channel is to be left alone just now.

    A crash between sending and recording repeats the message: its delivery shows the extra attempt.
    """
    limiter = runtime.current().limiter
    wait_seconds = limiter.acquire(channel_id)
    if wait_seconds:
        snooze(anomaly_id, channel_id, wait_seconds)
        return
    try:
        deliver(anomaly_id, channel_id)
    except TryAgain as later:
        pause_seconds = limiter.release(channel_id, failed=True, after_seconds=later.after_seconds)
        postpone(anomaly_id, channel_id, pause_seconds, later.reason)
        raise dramatiq.Retry(later.reason, delay=int(pause_seconds * 1000)) from later
    except BaseException:
        limiter.release(channel_id, failed=True)
        raise
    else:
        limiter.release(channel_id)


@retry_on_outage
def snooze(anomaly_id: str, channel_id: str, seconds: float) -> None:
    """Wait in Redis, not on a thread that other channels need; no retry is used up."""
    with connection():
        Delivery.snooze(UUID(anomaly_id), UUID(channel_id), seconds)
    batch = current_batch()
    assert batch is not None
    broker.enqueue(batch.copy(), delay=int(seconds * 1000) + 1)


def deliver(anomaly_id: str, channel_id: str) -> None:
    """CooldownClaim the delivery, send it, record what became of it. Raises `TryAgain`.

    One that somebody is at is looked at again until it is done or his claim runs out: he may be dead.
    """
    claimed = claim(anomaly_id, channel_id)
    if claimed is None:
        if seconds := claim_remaining_seconds(anomaly_id, channel_id):
            snooze(anomaly_id, channel_id, min(seconds, LOOK_AGAIN_SECONDS))
        return
    delivery, channel = claimed
    try:
        receipt = send(delivery.anomaly, channel)
    except Undeliverable as refusal:
        record(delivery.refused, refusal.reason)
        log.warning("rejected", channel=delivery.channel_name, anomaly_id=anomaly_id, reason=refusal.reason)
    else:
        record(delivery.delivered, receipt.text)
        log.info("delivered", channel=delivery.channel_name, anomaly_id=anomaly_id, receipt=receipt.text)


@retry_on_outage
def claim(anomaly_id: str, channel_id: str) -> tuple[Delivery, Channel | None] | None:
    """The delivery with its anomaly, and the channel unless it was deleted; None: that is not ours to do."""
    # In one transaction: a claim that nobody knows of would keep the delivery from everybody.
    with connection(), database.atomic():
        delivery = Delivery.claim(UUID(anomaly_id), UUID(channel_id))
        if delivery is None:
            return None
        delivery.anomaly = Anomaly.get_by_id(delivery.anomaly_id)
        return delivery, Channel.get_or_none(Channel.channel_id == channel_id)


@retry_on_outage
def claim_remaining_seconds(anomaly_id: str, channel_id: str) -> float:
    """For how long somebody has claimed the delivery; 0: it is done, or waits for a message of its own."""
    with connection():
        return Delivery.claim_remaining_seconds(UUID(anomaly_id), UUID(channel_id))


@retry_on_outage
def record(outcome: Callable[[str], None], text: str) -> None:
    """Record what became of a claimed delivery, with the receipt or the reason."""
    with connection():
        outcome(text)


@retry_on_outage
def postpone(anomaly_id: str, channel_id: str, seconds: float, reason: str) -> None:
    """Record that the channel did not take it now, and why."""
    with connection():
        Delivery.postpone(UUID(anomaly_id), UUID(channel_id), seconds, reason)


def send(anomaly: Anomaly, channel: Channel | None) -> Receipt:
    """Send through the channel's notifier; returns its receipt. Raises `TryAgain` or `Undeliverable`."""
    if channel is None:
        raise Undeliverable("the channel was deleted")
    if not channel.enabled:
        raise Undeliverable("the channel is disabled")
    bound = runtime.current()
    return bound.notifiers[channel.kind].send(compose(anomaly, bound.public_url), channel.settings)


def requeue_overdue() -> int:
    """Queue a notification for every delivery whose own was lost; returns how many. Doubles do no harm.

    While the queue is behind, nobody can tell what was lost from what waits: then none is queued.
    """
    if queues.depths(broker, "notify")["notify"].oldest_age_seconds > OVERDUE_SECONDS / 2:
        return 0
    with connection():
        overdue = Delivery.overdue()
    for delivery in overdue:
        notify.send(str(delivery.anomaly_id), str(delivery.channel_id))
    return len(overdue)

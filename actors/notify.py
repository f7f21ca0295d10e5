"""Announce one anomaly on one channel."""

import json
from collections.abc import Callable
from uuid import UUID

import dramatiq
import structlog

from actors import queues
from actors.broker import broker
from actors.guards import through_outages
from actors.traffic import Traffic
from actors.work import current_work
from models.anomaly import Anomaly
from models.channel import Channel
from models.database import connection, database
from models.delivery import OVERDUE_SECONDS, Delivery
from notifiers.base import Notification, Notifier, TryAgain, Undeliverable

log = structlog.get_logger()

#: The notifiers by the kind of channel they serve; filled when the process is set up.
NOTIFIERS: dict[str, Notifier] = {}
#: How people reach EventPulse, for the link of an alert.
public_url = ""

#: How soon a delivery that somebody else is at is looked at again.
LOOK_AGAIN_SECONDS = 1.0

traffic = Traffic()


@dramatiq.actor(queue_name="notify", concurrency=8, max_retries=15)
def notify(anomaly_id: str, channel_id: str) -> None:
    """Deliver one anomaly to one channel, unless the channel is to be left alone just now.

    A crash between sending and recording repeats the message: its delivery shows the extra attempt.
    """
    wait_seconds = traffic.enter(channel_id)
    if wait_seconds:
        put_off(anomaly_id, channel_id, wait_seconds)
        return
    try:
        deliver(anomaly_id, channel_id)
    except TryAgain as later:
        pause_seconds = traffic.leave(channel_id, failed=True, after_seconds=later.after_seconds)
        postpone(anomaly_id, channel_id, pause_seconds, later.reason)
        raise dramatiq.Retry(later.reason, delay=int(pause_seconds * 1000)) from later
    except BaseException:
        traffic.leave(channel_id, failed=True)
        raise
    else:
        traffic.leave(channel_id)


@through_outages
def put_off(anomaly_id: str, channel_id: str, seconds: float) -> None:
    """Wait in Redis, not on a thread that other channels need; no retry is used up."""
    with connection():
        Delivery.put_off(UUID(anomaly_id), UUID(channel_id), seconds)
    work = current_work()
    assert work is not None
    broker.enqueue(work.copy(), delay=int(seconds * 1000) + 1)


def deliver(anomaly_id: str, channel_id: str) -> None:
    """Claim the delivery, send it, record what became of it. Raises `TryAgain`.

    One that somebody is at is looked at again until it is done or his claim runs out: he may be dead.
    """
    claimed = claim(anomaly_id, channel_id)
    if claimed is None:
        if seconds := claimed_seconds(anomaly_id, channel_id):
            put_off(anomaly_id, channel_id, min(seconds, LOOK_AGAIN_SECONDS))
        return
    delivery, channel = claimed
    try:
        receipt = send(delivery.anomaly, channel)
    except Undeliverable as refusal:
        record(delivery.refused, refusal.reason)
        log.warning("refused", channel=delivery.channel_name, anomaly_id=anomaly_id, reason=refusal.reason)
    else:
        record(delivery.delivered, receipt)
        log.info("delivered", channel=delivery.channel_name, anomaly_id=anomaly_id, receipt=receipt)


@through_outages
def claim(anomaly_id: str, channel_id: str) -> tuple[Delivery, Channel | None] | None:
    """The delivery with its anomaly, and the channel unless it was deleted; None: that is not ours to do."""
    # In one transaction: a claim that nobody knows of would keep the delivery from everybody.
    with connection(), database.atomic():
        delivery = Delivery.claim(UUID(anomaly_id), UUID(channel_id))
        if delivery is None:
            return None
        delivery.anomaly = Anomaly.get_by_id(delivery.anomaly_id)
        return delivery, Channel.get_or_none(Channel.channel_id == channel_id)


@through_outages
def claimed_seconds(anomaly_id: str, channel_id: str) -> float:
    """For how long somebody has claimed the delivery; 0: it is done, or waits for a message of its own."""
    with connection():
        return Delivery.claimed_seconds(UUID(anomaly_id), UUID(channel_id))


@through_outages
def record(outcome: Callable[[str], None], text: str) -> None:
    """Record what became of a claimed delivery, with the receipt or the reason."""
    with connection():
        outcome(text)


@through_outages
def postpone(anomaly_id: str, channel_id: str, seconds: float, reason: str) -> None:
    """Record that the channel did not take it now, and why."""
    with connection():
        Delivery.postpone(UUID(anomaly_id), UUID(channel_id), seconds, reason)


def send(anomaly: Anomaly, channel: Channel | None) -> str:
    """Send through the channel's notifier; returns its receipt. Raises `TryAgain` or `Undeliverable`."""
    if channel is None:
        raise Undeliverable("the channel was deleted")
    if not channel.enabled:
        raise Undeliverable("the channel is disabled")
    return NOTIFIERS[channel.kind].send(compose(anomaly), channel.settings)


def resend_overdue() -> int:
    """Queue a notification for every delivery whose own was lost; returns how many. Doubles do no harm.

    While the queue is behind, nobody can tell what was lost from what waits: then none is queued.
    """
    if queues.depths(broker.client, "notify")["notify"].oldest_age_seconds > OVERDUE_SECONDS / 2:
        return 0
    with connection():
        overdue = Delivery.overdue()
    for delivery in overdue:
        notify.send(str(delivery.anomaly_id), str(delivery.channel_id))
    return len(overdue)


def compose(anomaly: Anomaly) -> Notification:
    """What a person should know of an anomaly at first sight."""
    evidence = anomaly.evidence
    return Notification(
        anomaly_id=str(anomaly.anomaly_id),
        rule_id=str(anomaly.rule_id),
        rule_name=anomaly.rule_name,
        severity=anomaly.severity,
        message=anomaly.message,
        observed=f"{evidence.get('count', evidence['observed']) if 'limit' in evidence else evidence['observed']:g}",
        threshold=evidence.get("limit", f"{evidence['threshold']:g}"),
        window_seconds=evidence.get("window_seconds", 0),
        group=json.loads(anomaly.group_key),
        event_id=str(anomaly.event_id),
        occurred_at=anomaly.occurred_at,
        detected_at=anomaly.detected_at,
        evidence=[_line(sample) for sample in evidence["samples"]],
        link=f"{public_url.rstrip('/')}/api/v1/anomalies/{anomaly.anomaly_id}",
    )


def _line(sample: dict[str, object]) -> str:
    payload = json.dumps(sample["payload"], ensure_ascii=False, separators=(", ", ": "))
    return f"{sample['timestamp']} {sample['event_type']} {sample['source']} {payload}"

"""Announce one anomaly on one channel."""

import json
import time
from uuid import UUID

import dramatiq
import structlog

from actors.batching import current_work
from actors.broker import broker
from actors.guards import through_outages
from models.anomaly import Anomaly
from models.channel import Channel
from models.database import connection
from models.delivery import Delivery
from notifiers.base import Notification, Notifier, TryAgain, Undeliverable

log = structlog.get_logger()

#: How long this process leaves a channel alone that failed without saying for how long.
PAUSE_SECONDS = 2.0

#: The notifiers by the kind of channel they serve; filled when the process is set up.
NOTIFIERS: dict[str, Notifier] = {}
#: How people reach EventPulse, for the link of an alert.
public_url = ""

_paused_until: dict[str, float] = {}


@dramatiq.actor(queue_name="notify", concurrency=4, max_retries=8, min_backoff=1_000, max_backoff=300_000)
@through_outages
def notify(anomaly_id: str, channel_id: str) -> None:
    """Claim the delivery, send it, record what became of it.

    A crash between sending and recording repeats the message: its delivery shows the extra attempt.
    """
    work = current_work()
    assert work is not None
    pause = _paused_until.get(channel_id, 0.0) - time.monotonic()
    if pause > 0:
        # For a failing channel one waits in Redis, not on a thread that other channels need; no retry is used up.
        broker.enqueue(work.copy(), delay=int(pause * 1000) + 1)
        return
    claimed = claim(anomaly_id, channel_id, work.message_id)
    if claimed is None:
        return
    delivery, channel = claimed
    try:
        receipt = send(delivery.anomaly, channel)
    except Undeliverable as refusal:
        settle(delivery, "refused", refusal.reason)
    except TryAgain as later:
        settle(delivery, "postponed", later.reason)
        after = later.after_seconds
        _paused_until[channel_id] = time.monotonic() + (PAUSE_SECONDS if after is None else after)
        delay = None if after is None else int(after * 1000)
        raise dramatiq.Retry(later.reason, delay=delay) from later
    else:
        settle(delivery, "delivered", receipt)


def claim(anomaly_id: str, channel_id: str, claimant: str) -> tuple[Delivery, Channel | None] | None:
    """The delivery with its anomaly, and the channel unless it was deleted; None: there is nothing left to do."""
    with connection():
        delivery = Delivery.claim(UUID(anomaly_id), UUID(channel_id), claimant)
        if delivery is None:
            return None
        delivery.anomaly = Anomaly.get_by_id(delivery.anomaly_id)
        return delivery, Channel.get_or_none(Channel.channel_id == channel_id)


def send(anomaly: Anomaly, channel: Channel | None) -> str:
    """Send through the channel's notifier; returns its receipt. Raises `TryAgain` or `Undeliverable`."""
    if channel is None:
        raise Undeliverable("the channel was deleted")
    if not channel.enabled:
        raise Undeliverable("the channel is disabled")
    return NOTIFIERS[channel.kind].send(compose(anomaly), channel.settings)


def settle(delivery: Delivery, outcome: str, text: str) -> None:
    """Record what became of a claimed delivery, with the receipt or the reason."""
    with connection():
        getattr(delivery, outcome)(text)
    write = log.info if outcome == "delivered" else log.warning
    write(outcome, channel=delivery.channel_name, anomaly_id=str(delivery.anomaly_id), detail=text)


def compose(anomaly: Anomaly) -> Notification:
    """What a person should know of an anomaly at first sight."""
    evidence = anomaly.evidence
    return Notification(
        anomaly_id=str(anomaly.anomaly_id),
        rule_id=str(anomaly.rule_id),
        rule_name=anomaly.rule_name,
        severity=anomaly.severity,
        message=anomaly.message,
        observed=f"{evidence['count'] if 'limit' in evidence else evidence['observed']:g}",
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

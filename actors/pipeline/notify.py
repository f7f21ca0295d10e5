"""Stage that sends one anomaly to one channel."""

from uuid import UUID

import dramatiq
import structlog

from actors import runtime
from actors.pipeline.delivery_attempt import Claim, DeliveryAttempt
from actors.pipeline.notification import compose
from notifiers.base import Receipt, TryAgain, Undeliverable

log = structlog.get_logger()


# With the pauses of the channel limiter, 20 retries take about 12 minutes.
@dramatiq.actor(queue_name="notify", concurrency=8, max_retries=20)
def notify(anomaly_id: str, channel_id: str) -> None:
    """Deliver one anomaly to one channel, or snooze the delivery if the channel limiter allows no send now.

    If the worker crashes after it has sent the notification and before it has recorded the outcome, the notification
    is sent twice; the field `attempts` of the delivery is then greater than 1.
    """
    attempt = DeliveryAttempt(UUID(anomaly_id), UUID(channel_id))
    limiter = runtime.current().limiter
    if wait_seconds := limiter.acquire(channel_id):
        attempt.snooze(wait_seconds)
        return
    try:
        deliver(attempt)
    finally:
        limiter.release(channel_id)


def deliver(attempt: DeliveryAttempt) -> None:
    """Claim the delivery, send the notification and record the outcome.

    If another worker has claimed the delivery, snooze it. Raises `dramatiq.Retry` after a temporary failure.
    """
    claim = attempt.claim()
    if claim is None:
        attempt.snooze_while_claimed()
        return
    limiter, channel_id = runtime.current().limiter, str(attempt.channel_id)
    try:
        receipt = send(claim)
    except TryAgain as error:
        pause_seconds = limiter.record_failure(channel_id, error.after_seconds)
        retry(attempt, error.reason, pause_seconds)
    except Undeliverable as error:
        limiter.record_success(channel_id)
        reject(attempt, claim, error.reason)
    except Exception:
        limiter.record_failure(channel_id)
        raise
    else:
        limiter.record_success(channel_id)
        confirm(attempt, claim, receipt)


def send(claim: Claim) -> Receipt:
    """Send the notification to the channel and return the receipt. Raises `TryAgain` or `Undeliverable`."""
    channel = claim.channel
    if channel is None:
        raise Undeliverable("the channel was deleted")
    if not channel.enabled:
        raise Undeliverable("the channel is disabled")
    bound = runtime.current()
    notification = compose(claim.anomaly, bound.public_url, claim.runbook_url)
    return bound.notifier(channel.kind).send(notification, channel.settings)


def retry(attempt: DeliveryAttempt, reason: str, pause_seconds: float) -> None:
    """Reschedule the delivery and raise `dramatiq.Retry`, which delays the message by `pause_seconds`."""
    attempt.reschedule(pause_seconds, reason)
    raise dramatiq.Retry(reason, delay=int(pause_seconds * 1000))


def reject(attempt: DeliveryAttempt, claim: Claim, reason: str) -> None:
    """Record and log a permanent failure of the delivery."""
    attempt.record_rejected(reason)
    log.warning("delivery_rejected", channel=claim.channel_name, anomaly_id=str(attempt.anomaly_id), reason=reason)


def confirm(attempt: DeliveryAttempt, claim: Claim, receipt: Receipt) -> None:
    """Record and log a successful delivery."""
    attempt.record_delivered(receipt)
    log.info("delivery_succeeded", channel=claim.channel_name, anomaly_id=str(attempt.anomaly_id), receipt=receipt.text)

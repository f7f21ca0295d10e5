"""Attempts to send the next notification of a channel: claim, compose, send, record.

Claiming and recording are repeated until PostgreSQL is available.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import structlog

from actors.channels.limits import ChannelLimits
from actors.channels.notification import compose, compose_digest, compose_notice, compose_without_evidence
from actors.channels.wake import try_wake
from actors.outages import retry_on_outage
from models import delivery_queue
from models.anomaly import Anomaly
from models.channel import Channel
from models.channel_notice import ChannelNotice
from models.channel_state import ChannelState, Condition, Outage
from models.database import connection, database
from models.delivery import Delivery
from models.delivery_queue import ClaimedDelivery, ClaimedDigest
from models.rule import Rule
from notifiers.base import Notification, Notifier, Receipt, TryAgain, Undeliverable

log = structlog.get_logger()

UNSUPPORTED_KIND = "this version does not support channels of the kind"
#: Result of a send: the receipt, or the exception that the notifier raised.
Outcome = Receipt | Exception


class Attempt(NamedTuple):
    """Claimed notification, and the channel and its condition at the time of the claim."""

    channel: Channel
    condition: Condition
    claimed: ClaimedDelivery | ClaimedDigest | ChannelNotice
    notification: Notification


class _AlreadyReserved(Exception):
    """Raised to roll back a claim if another worker has reserved the channel."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """Steps of an attempt. `notifiers` maps a channel kind to its notifier; `public_url` is the base of links."""

    notifiers: Mapping[str, Notifier]
    public_url: str
    limits: ChannelLimits

    @retry_on_outage
    def claim(self, channel_id: UUID) -> Attempt | float | None:
        """Claim and compose the next notification of a channel.

        Return the seconds until the next one may be sent if none may be sent now; None if the queue is empty.
        """
        try:
            # One transaction: if a later query fails, a committed claim would block the delivery until it expires.
            with connection(), database.atomic():
                channel = Channel.get_or_none(Channel.channel_id == channel_id)
                if channel is None or not channel.enabled:
                    self._reject_all(channel_id, channel)
                    return None
                condition = ChannelState.condition(channel, self.limits.digest_seconds)
                if channel.kind not in self.notifiers:
                    # A newer version may have created the channel: its workers can send to it.
                    delivery_queue.note_error(channel_id, f"{UNSUPPORTED_KIND} {channel.kind}")
                    return None
                if condition.pause_seconds > 0:
                    return condition.pause_seconds if self._has_work(channel_id) else None
                return self._claim_next(channel, condition)
        except _AlreadyReserved:
            return self.limits.min_throttle_seconds

    @retry_on_outage
    def record(self, attempt: Attempt, outcome: Outcome) -> None:
        """Record the outcome of a send, and the condition of the channel that follows from it."""
        with connection(), database.atomic():
            if isinstance(outcome, Receipt):
                _record_delivered(attempt, outcome)
            elif isinstance(outcome, Undeliverable):
                _record_rejected(attempt, outcome.reason)
            else:
                self._record_failure(attempt, outcome)

    def _reject_all(self, channel_id: UUID, channel: Channel | None) -> None:
        reason = "the channel was deleted" if channel is None else "the channel is disabled"
        if rejected := delivery_queue.reject_all(channel_id, reason):
            log.warning("deliveries_rejected", channel_id=str(channel_id), reason=reason, deliveries=rejected)

    def _has_work(self, channel_id: UUID) -> bool:
        notices = ChannelNotice.select().where(ChannelNotice.channel_id == channel_id)
        return delivery_queue.next_due_seconds(channel_id) is not None or bool(notices.exists())

    def _claim_next(self, channel: Channel, condition: Condition) -> Attempt | float | None:
        if notice := ChannelNotice.claim(channel.channel_id):
            attempt = Attempt(channel, condition, notice, compose_notice(notice, self.public_url))
        elif digest := self._digest(channel, condition):
            attempt = Attempt(channel, condition, digest, compose_digest(digest, self.public_url))
        elif delivery := delivery_queue.claim(
            channel.channel_id, fewest_attempts_first=self.limits.is_detour(condition.failures)
        ):
            attempt = Attempt(channel, condition, delivery, self._compose(delivery))
        else:
            return delivery_queue.next_due_seconds(channel.channel_id)
        if condition.sends_alone and not ChannelState.reserve(channel):
            raise _AlreadyReserved
        return attempt

    def _digest(self, channel: Channel, condition: Condition) -> ClaimedDigest | None:
        """Claim a digest if the channel accepts notifications but cannot keep up, and no critical alert is waiting."""
        accepts = condition.failures == 0 and condition.accepts_steadily
        limits = self.limits
        if accepts and delivery_queue.is_behind(channel.channel_id, limits.digest_seconds, limits.digest_deliveries):
            critical = delivery_queue.has_critical(channel.channel_id)
            return None if critical else delivery_queue.claim_digest(channel.channel_id)
        return None

    def _compose(self, delivery: ClaimedDelivery) -> Notification:
        anomaly = Anomaly.get_by_id(delivery.anomaly_id)
        runbook_url = Rule.select(Rule.runbook_url).where(Rule.rule_id == anomaly.rule_id).scalar()
        try:
            return compose(anomaly, self.public_url, runbook_url)
        except (LookupError, TypeError, ValueError) as error:  # evidence of a newer version
            log.error("notification_incomplete", anomaly_id=str(delivery.anomaly_id), error=repr(error))
            return compose_without_evidence(anomaly, self.public_url)

    def _record_failure(self, attempt: Attempt, error: Exception) -> None:
        channel, failures = attempt.channel, attempt.condition.failures
        reason = error.reason if isinstance(error, TryAgain) else f"{type(error).__name__}: {error}"
        after_seconds = error.after_seconds if isinstance(error, TryAgain) else None
        snooze_seconds = 0.0
        if isinstance(error, TryAgain) and error.is_throttled:
            ChannelState.record_throttled(channel, self.limits.throttle_pause(after_seconds), reason)
        else:
            attempts = attempt.claimed.attempts if isinstance(attempt.claimed, ClaimedDelivery) else 1
            snooze_seconds = self.limits.snooze(attempts, failures)
            pause_seconds = self.limits.failure_pause(failures + 1, after_seconds)
            ChannelState.record_failure(channel, failures + 1, pause_seconds, reason)
            log.warning("delivery_failed", **_context(attempt), reason=reason, pause_seconds=round(pause_seconds, 1))
        _release(attempt, snooze_seconds, reason)


def _record_delivered(attempt: Attempt, receipt: Receipt) -> None:
    match attempt.claimed:
        case ClaimedDelivery(anomaly_id, channel_id, _):
            Delivery.record_delivered(anomaly_id, channel_id, receipt.text, receipt.reference)
        case ClaimedDigest() as digest:
            delivery_queue.record_digest_delivered(digest, receipt.text, receipt.reference)
        case ChannelNotice() as notice:
            ChannelNotice.settle(notice.notice_id)
    if attempt.condition.failing_since:
        _record_recovered(attempt)
    log.info("delivery_succeeded", **_context(attempt), receipt=receipt.text)


def _record_recovered(attempt: Attempt) -> None:
    channel, condition = attempt.channel, attempt.condition
    if ChannelState.record_recovered(channel) and condition.is_announced and condition.failing_since:
        outage = Outage(channel.channel_id, channel.name, "", condition.failing_since)
        try_wake(ChannelNotice.add(outage, is_failing=False))
        log.info("channel_recovered", channel=channel.name)


def _record_rejected(attempt: Attempt, reason: str) -> None:
    match attempt.claimed:
        case ClaimedDelivery(anomaly_id, channel_id, _):
            Delivery.record_rejected(anomaly_id, channel_id, reason)
        case ClaimedDigest() as digest:
            delivery_queue.record_digest_rejected(digest, reason)
        case ChannelNotice() as notice:
            ChannelNotice.settle(notice.notice_id)
    ChannelState.record_rejected(attempt.channel, reason)
    log.warning("delivery_rejected", **_context(attempt), reason=reason)


def _release(attempt: Attempt, snooze_seconds: float, reason: str) -> None:
    match attempt.claimed:
        case ClaimedDelivery() as delivery:
            delivery_queue.release(delivery, snooze_seconds, reason)
        case ClaimedDigest() as digest:
            delivery_queue.release_digest(digest, reason)
        case ChannelNotice() as notice:
            ChannelNotice.release(notice.notice_id)


def _context(attempt: Attempt) -> dict[str, str]:
    """Return the fields of log events about an attempt."""
    return {"channel": attempt.channel.name, "subject": attempt.notification.subject_key}

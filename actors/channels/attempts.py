"""Attempts to send the next notification of a channel: claim, compose, send, record.

Claiming and recording are repeated until PostgreSQL is available.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
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
from notifiers.registry import KINDS

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


class Paused(NamedTuple):
    """Result of a claim from a channel that is paused for `seconds`; new deliveries do not end the pause."""

    seconds: float


class _AlreadyReserved(Exception):
    """Raised to roll back a claim if another worker has reserved the channel."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """Steps of an attempt. `notifiers` maps a channel kind to its notifier; `public_url` is the base of links."""

    notifiers: Mapping[str, Notifier]
    public_url: str
    limits: ChannelLimits

    @retry_on_outage
    def claim(self, channel_id: UUID) -> list[Attempt] | Paused | float | None:
        """Claim and compose the next notification of a channel or, for a local kind, the next notifications.

        Return `Paused` if the channel is paused, the seconds until the next delivery is due if none is due now, and
        None if the queue is empty.
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
                    return Paused(condition.pause_seconds) if self._has_work(channel_id) else None
                return self._claim_next(channel, condition)
        except _AlreadyReserved:
            return Paused(self.limits.min_throttle_seconds)

    @retry_on_outage
    def record(self, outcomes: Sequence[tuple[Attempt, Outcome]]) -> None:
        """Record the outcomes of sends, and the condition of the channel that follows from them."""
        with connection(), database.atomic():
            accepted = [(attempt, outcome) for attempt, outcome in outcomes if isinstance(outcome, Receipt)]
            for receipt, group in groupby(accepted, key=itemgetter(1)):
                _record_delivered([attempt for attempt, _ in group], receipt)
            for attempt, outcome in outcomes:
                if isinstance(outcome, Undeliverable):
                    _record_rejected(attempt, outcome.reason)
                elif isinstance(outcome, Exception):
                    self._record_failure(attempt, outcome)

    def _reject_all(self, channel_id: UUID, channel: Channel | None) -> None:
        reason = "the channel was deleted" if channel is None else "the channel is disabled"
        if rejected := delivery_queue.reject_all(channel_id, reason):
            log.warning("deliveries_rejected", channel_id=str(channel_id), reason=reason, deliveries=rejected)

    def _has_work(self, channel_id: UUID) -> bool:
        notices = ChannelNotice.select().where(ChannelNotice.channel_id == channel_id)
        return delivery_queue.next_due_seconds(channel_id) is not None or bool(notices.exists())

    def _claim_next(self, channel: Channel, condition: Condition) -> list[Attempt] | float | None:
        if notice := ChannelNotice.claim(channel.channel_id):
            attempts = [Attempt(channel, condition, notice, compose_notice(notice, self.public_url))]
        elif digest := self._digest(channel, condition):
            attempts = [Attempt(channel, condition, digest, compose_digest(digest, self.public_url))]
        elif deliveries := self._claim_deliveries(channel, condition):
            composed = zip(deliveries, self._compose(deliveries), strict=True)
            attempts = [Attempt(channel, condition, delivery, notification) for delivery, notification in composed]
        else:
            return delivery_queue.next_due_seconds(channel.channel_id)
        if condition.sends_alone and not ChannelState.reserve(channel):
            raise _AlreadyReserved
        return attempts

    def _claim_deliveries(self, channel: Channel, condition: Condition) -> list[ClaimedDelivery]:
        limit = self.limits.local_batch if KINDS[channel.kind].is_local and not condition.sends_alone else 1
        is_detour = self.limits.is_detour(condition.failures)
        return delivery_queue.claim(channel.channel_id, limit, fewest_attempts_first=is_detour)

    def _digest(self, channel: Channel, condition: Condition) -> ClaimedDigest | None:
        """Claim a digest if the channel accepts notifications but cannot keep up, and no critical alert is waiting."""
        accepts = condition.failures == 0 and condition.accepts_steadily
        limits = self.limits
        if accepts and delivery_queue.is_behind(channel.channel_id, limits.digest_seconds, limits.digest_deliveries):
            critical = delivery_queue.has_critical(channel.channel_id)
            return None if critical else delivery_queue.claim_digest(channel.channel_id)
        return None

    def _compose(self, deliveries: Sequence[ClaimedDelivery]) -> list[Notification]:
        """Return the notification of each delivery, with the current runbook URL of its rule."""
        ids = [delivery.anomaly_id for delivery in deliveries]
        anomalies = {anomaly.anomaly_id: anomaly for anomaly in Anomaly.select().where(Anomaly.anomaly_id.in_(ids))}
        rule_ids = {anomaly.rule_id for anomaly in anomalies.values()}
        rules = Rule.select(Rule.rule_id, Rule.runbook_url).where(Rule.rule_id.in_(rule_ids))
        runbooks: dict[UUID, str | None] = {rule.rule_id: rule.runbook_url for rule in rules}
        return [self._compose_one(anomalies[each], runbooks.get(anomalies[each].rule_id)) for each in ids]

    def _compose_one(self, anomaly: Anomaly, runbook_url: str | None) -> Notification:
        try:
            return compose(anomaly, self.public_url, runbook_url)
        except (LookupError, TypeError, ValueError) as error:  # evidence of a newer version
            log.error("notification_incomplete", anomaly_id=str(anomaly.anomaly_id), error=repr(error))
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


def _record_delivered(attempts: Sequence[Attempt], receipt: Receipt) -> None:
    """Record notifications of one channel that were accepted with the same receipt."""
    channel, condition, claimed, _ = attempts[0]
    if isinstance(claimed, ClaimedDigest):
        delivery_queue.record_digest_delivered(claimed, receipt.text, receipt.reference)
    elif isinstance(claimed, ChannelNotice):
        ChannelNotice.settle(claimed.notice_id)
    else:
        ids = [each.claimed.anomaly_id for each in attempts if isinstance(each.claimed, ClaimedDelivery)]
        Delivery.record_delivered(ids, channel.channel_id, receipt.text, receipt.reference)
    if condition.failing_since:
        _record_recovered(attempts[0])
    for attempt in attempts:
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

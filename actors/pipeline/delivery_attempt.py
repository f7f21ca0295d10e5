"""Attempt to deliver an anomaly to a channel. Each step is repeated until PostgreSQL and Redis are available."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from actors.broker import broker
from actors.outages import retry_on_outage
from actors.transport.batch import current_batch
from models.anomaly import Anomaly
from models.channel import Channel
from models.database import connection, database
from models.delivery import Delivery
from models.rule import Rule
from notifiers.base import Receipt

#: Maximum time for which a delivery is snoozed because another worker has claimed it.
CHECK_AGAIN_SECONDS = 1.0


class Claim(NamedTuple):
    """Data of a claimed delivery.

    `runbook_url` is the current runbook URL of the rule, or None. `channel` is None if the channel was deleted;
    `channel_name` is always set.
    """

    anomaly: Anomaly
    runbook_url: str | None
    channel: Channel | None
    channel_name: str


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """Steps that process one `notify` message."""

    anomaly_id: UUID
    channel_id: UUID

    @retry_on_outage
    def claim(self) -> Claim | None:
        """Claim the delivery for sending; return None if it is settled or already claimed."""
        # One transaction: if a later query fails, a committed claim would block the delivery until the claim expires.
        with connection(), database.atomic():
            delivery = Delivery.claim(self.anomaly_id, self.channel_id)
            if delivery is None:
                return None
            anomaly = Anomaly.get_by_id(self.anomaly_id)
            runbook_url = Rule.select(Rule.runbook_url).where(Rule.rule_id == anomaly.rule_id).scalar()
            channel = Channel.get_or_none(Channel.channel_id == self.channel_id)
            return Claim(anomaly, runbook_url, channel, delivery.channel_name)

    @retry_on_outage
    def snooze(self, seconds: float) -> None:
        """Snooze the delivery: set its due time, and add a delayed copy of its message to the outbox.

        A delayed message occupies no thread and uses no retry.
        """
        with connection():
            Delivery.snooze(self.anomaly_id, self.channel_id, seconds)
        batch = current_batch()
        assert batch is not None
        broker.enqueue(batch.copy(), delay=int(seconds * 1000) + 1)

    def snooze_while_claimed(self) -> None:
        """Snooze the delivery if another worker has claimed it, so that it is sent even if that worker crashes."""
        if seconds := self._claim_remaining_seconds():
            self.snooze(min(seconds, CHECK_AGAIN_SECONDS))

    @retry_on_outage
    def reschedule(self, seconds: float, reason: str) -> None:
        """Reschedule the delivery after a temporary failure of the channel, and record the reason."""
        with connection():
            Delivery.reschedule(self.anomaly_id, self.channel_id, seconds, reason)

    @retry_on_outage
    def record_delivered(self, receipt: Receipt) -> None:
        """Record that the channel accepted the notification."""
        with connection():
            Delivery.record_delivered(self.anomaly_id, self.channel_id, receipt.text, receipt.reference)

    @retry_on_outage
    def record_rejected(self, reason: str) -> None:
        """Record that the delivery has failed permanently."""
        with connection():
            Delivery.record_rejected(self.anomaly_id, self.channel_id, reason)

    @retry_on_outage
    def _claim_remaining_seconds(self) -> float:
        with connection():
            return Delivery.claim_remaining_seconds(self.anomaly_id, self.channel_id)

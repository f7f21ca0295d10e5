"""A delivery: one anomaly on its way to one channel."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

import peewee

from models.anomaly import Anomaly
from models.base import Row, count_by_minute, now, time
from models.channel import Channel

#: A claim older than this belongs to a worker that died while it was sending.
CLAIM_SECONDS = 60


class Delivery(Row):
    """State of one announcement.

    `pending`: to be sent, again after a `TryAgain`; set by evaluate and by notify.
    `sending`: claimed by the message `claimed_by`; set by notify. Still so after a crash, it may be sent twice.
    `delivered`: the channel took it (`receipt`); set by notify.
    `refused`: the channel said no for good (`last_error`); set by notify.
    `dead`: its retries ran out; set when its message is stored as a dead letter. A replay claims it again.
    """

    anomaly_id: UUID  # peewee makes it for the foreign key
    anomaly = peewee.ForeignKeyField(Anomaly, column_name="anomaly_id", on_delete="CASCADE", index=False)
    channel_id = peewee.UUIDField()
    channel_name = peewee.TextField()
    status = peewee.TextField(default="pending")
    attempts = peewee.IntegerField(default=0)
    claimed_by = peewee.TextField(null=True)
    claimed_at = time(null=True)
    receipt = peewee.TextField(null=True)
    last_error = peewee.TextField(null=True)
    delivered_at = time(null=True)
    created_at = time(default=now)

    class Meta:
        table_name = "deliveries"
        primary_key = peewee.CompositeKey("anomaly", "channel_id")

    @classmethod
    def plan(cls, anomaly: Anomaly, channels: Iterable[Channel]) -> list[Self]:
        """Make the missing deliveries of an anomaly; returns those that are still to be sent."""
        rows = [
            {"anomaly": anomaly, "channel_id": channel.channel_id, "channel_name": channel.name} for channel in channels
        ]
        if rows:
            cls.insert_many(rows).on_conflict_ignore().execute()
        return list(cls.select().where(cls.anomaly == anomaly, cls.status.in_(["pending", "sending"])))

    @classmethod
    def claim(cls, anomaly_id: UUID, channel_id: UUID, claimant: str) -> Self | None:
        """Take the delivery for the message `claimant`; None: it is done, or another message is at it."""
        stale = now() - timedelta(seconds=CLAIM_SECONDS)
        free = (
            cls.status.in_(["pending", "dead"])
            | ((cls.status == "sending") & (cls.claimed_by == claimant))
            | ((cls.status == "sending") & (cls.claimed_at < stale))
        )
        claimed = (
            cls.update(status="sending", attempts=cls.attempts + 1, claimed_by=claimant, claimed_at=now())
            .where(cls.anomaly == anomaly_id, cls.channel_id == channel_id, free)
            .execute()
        )
        return cls.get(cls.anomaly == anomaly_id, cls.channel_id == channel_id) if claimed else None

    def delivered(self, receipt: str) -> None:
        self._settle(status="delivered", receipt=receipt, delivered_at=now(), last_error=None)

    def refused(self, reason: str) -> None:
        self._settle(status="refused", last_error=reason)

    def postponed(self, reason: str) -> None:
        self._settle(status="pending", last_error=reason)

    @classmethod
    def bury(cls, anomaly_id: UUID, channel_id: UUID, reason: str) -> None:
        """Its message is a dead letter now, unless somebody delivered it after all."""
        undone = cls.status.in_(["pending", "sending"])
        key = (cls.anomaly == anomaly_id, cls.channel_id == channel_id)
        cls.update(status="dead", last_error=reason).where(*key, undone).execute()

    @classmethod
    def count_by_minute(cls, since: datetime) -> dict[datetime, int]:
        """How many were delivered in each minute since then; minutes without any are left out."""
        return count_by_minute(cls.delivered_at, since)

    def _settle(self, **fields: object) -> None:
        key = (Delivery.anomaly == self.anomaly_id, Delivery.channel_id == self.channel_id)
        Delivery.update(**fields).where(*key).execute()

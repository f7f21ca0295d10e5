"""A delivery: one anomaly on its way to one channel."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

import peewee

from models.anomaly import Anomaly
from models.base import Row, count_by_minute, now, time
from models.channel import Channel

#: A claim older than this belongs to a worker that died while it was sending: longer than any notifier may take.
CLAIM_SECONDS = 15
#: A delivery whose time is so long past has no message in the queue any more.
OVERDUE_SECONDS = 10

#: By PostgreSQL's clock: a worker whose own is wrong would take a claim of another's for one that ran out.
PRESENT = peewee.fn.clock_timestamp()


def _after(seconds: float) -> peewee.Expression:
    later: peewee.Expression = PRESENT + timedelta(seconds=seconds)
    return later


class Delivery(Row):
    """State of one announcement.

    `pending`: to be sent, again after a `TryAgain`; set by evaluate and by notify.
    `sending`: claimed until `due_at`; set by notify. Still so after a crash, it is sent again.
    `delivered`: the channel took it (`receipt`); set by notify.
    `refused`: the channel said no for good (`last_error`); set by notify.
    `dead`: its retries ran out; set when its message is stored as a dead letter. A replay claims it again.

    `due_at` is when a message for it ought to run, or its claim runs out.
    """

    anomaly_id: UUID  # peewee makes it for the foreign key
    anomaly = peewee.ForeignKeyField(Anomaly, column_name="anomaly_id", on_delete="CASCADE", index=False)
    channel_id = peewee.UUIDField()
    channel_name = peewee.TextField()
    status = peewee.TextField(default="pending")
    attempts = peewee.IntegerField(default=0)
    due_at = time()
    receipt = peewee.TextField(null=True)
    reference = peewee.TextField(null=True)
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
            {"anomaly": anomaly, "channel_id": channel.channel_id, "channel_name": channel.name, "due_at": PRESENT}
            for channel in channels
        ]
        if rows:
            cls.insert_many(rows).on_conflict_ignore().execute()
        return list(cls.select().where(cls.anomaly == anomaly, cls._undone()))

    @classmethod
    def claim(cls, anomaly_id: UUID, channel_id: UUID) -> Self | None:
        """Take the delivery, to send it; None: it is done, or somebody is at it."""
        free = cls.status.in_(["pending", "dead"]) | ((cls.status == "sending") & (cls.due_at <= PRESENT))
        claimed = (
            cls.update(status="sending", attempts=cls.attempts + 1, due_at=_after(CLAIM_SECONDS))
            .where(*cls._key(anomaly_id, channel_id), free)
            .execute()
        )
        return cls.get(*cls._key(anomaly_id, channel_id)) if claimed else None

    @classmethod
    def claim_remaining_seconds(cls, anomaly_id: UUID, channel_id: UUID) -> float:
        """For how long somebody has claimed it; 0 when nobody has, or it is done."""
        left = peewee.fn.EXTRACT(peewee.NodeList((peewee.SQL("EPOCH FROM"), cls.due_at - PRESENT)))
        claimed = cls.select(left).where(*cls._key(anomaly_id, channel_id), cls.status == "sending").scalar()
        return max(0.001, float(claimed)) if claimed is not None else 0.0

    @classmethod
    def postpone(cls, anomaly_id: UUID, channel_id: UUID, seconds: float, reason: str) -> None:
        """The channel did not take it, for this reason: it is to be sent again in so many seconds."""
        again = cls.update(status="pending", due_at=_after(seconds), last_error=reason)
        again.where(*cls._key(anomaly_id, channel_id), cls._undone()).execute()

    @classmethod
    def snooze(cls, anomaly_id: UUID, channel_id: UUID, seconds: float) -> None:
        """It is to be sent in so many seconds, unless somebody is at it."""
        later = cls.update(due_at=_after(seconds))
        later.where(*cls._key(anomaly_id, channel_id), cls.status == "pending").execute()

    def delivered(self, receipt: str) -> None:
        self._settle(status="delivered", receipt=receipt, delivered_at=now(), last_error=None)

    def refused(self, reason: str) -> None:
        self._settle(status="rejected", last_error=reason)

    @classmethod
    def overdue(cls, limit: int = 1_000) -> list[Self]:
        """Those that wait for a message which was lost with its worker, each as due from now on."""
        late = cls._undone() & (cls.due_at < _after(-OVERDUE_SECONDS))
        found = list(cls.select().where(late).order_by(cls.due_at).limit(limit))
        for delivery in found:
            cls.update(due_at=PRESENT).where(*cls._key(delivery.anomaly_id, delivery.channel_id)).execute()
        return found

    @classmethod
    def bury(cls, anomaly_id: UUID, channel_id: UUID, reason: str) -> None:
        """Its message is a dead letter now, unless somebody delivered it after all."""
        cls.update(status="dead", last_error=reason).where(*cls._key(anomaly_id, channel_id), cls._undone()).execute()

    @classmethod
    def count_by_minute(cls, since: datetime) -> dict[datetime, int]:
        """How many were delivered in each minute since then; minutes without any are left out."""
        return count_by_minute(cls.delivered_at, since)

    def _settle(self, **fields: object) -> None:
        Delivery.update(**fields).where(*self._key(self.anomaly_id, self.channel_id)).execute()

    @classmethod
    def _key(cls, anomaly_id: UUID, channel_id: UUID) -> tuple[peewee.Expression, peewee.Expression]:
        return cls.anomaly == anomaly_id, cls.channel_id == channel_id

    @classmethod
    def _undone(cls) -> peewee.Expression:
        undone: peewee.Expression = cls.status.in_(["pending", "sending"])
        return undone

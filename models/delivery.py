"""A delivery: the announcement of one anomaly to one channel."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

import peewee

from models.anomaly import Anomaly
from models.base import Row, count_by_minute, now, time
from models.channel import Channel
from models.database import database

#: Time after which a claim expires; longer than the maximum duration of a send.
CLAIM_SECONDS = 15
#: Time from `due_at` until a delivery is overdue, because its message was probably lost.
OVERDUE_SECONDS = 10

#: Current time of PostgreSQL. The clocks of workers are not used: a clock that is ahead would end claims too early.
PRESENT = peewee.fn.clock_timestamp()

CREATE_MISSING = """
    INSERT INTO deliveries (anomaly_id, channel_id, channel_name, status, attempts, due_at, created_at)
    SELECT anomaly_id, channel_id, channel_name, 'pending', 0, clock_timestamp(), clock_timestamp()
    FROM unnest(%s::uuid[]) AS anomaly_id, unnest(%s::uuid[], %s::text[]) AS channel(channel_id, channel_name)
    ON CONFLICT (anomaly_id, channel_id) DO NOTHING
"""
# SKIP LOCKED: a locked delivery is being claimed or settled, so its message is not lost and must not be enqueued again.
TAKE_OVERDUE = """
    UPDATE deliveries SET due_at = clock_timestamp() WHERE (anomaly_id, channel_id) IN (
        SELECT anomaly_id, channel_id FROM deliveries
        WHERE status IN ('pending', 'sending') AND due_at < clock_timestamp() - make_interval(secs => %s)
        ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
    RETURNING anomaly_id, channel_id
"""


def _after(seconds: float) -> peewee.Expression:
    later: peewee.Expression = PRESENT + timedelta(seconds=seconds)
    return later


class Delivery(Row):
    """State of the announcement of one anomaly to one channel.

    `status` is one of:
    `pending`: to be sent. Set by evaluate when it records the anomaly, and by notify after a temporary failure.
    `sending`: claimed by a worker until `due_at`. Set by notify; after a crash the claim expires and another attempt
    follows.
    `delivered`: the channel accepted the notification. Set by notify.
    `rejected`: the channel rejected the notification permanently. Set by notify.
    `dead`: the retries are exhausted. Set by the scheduler when it stores the dead letter; a replay claims the delivery
    again.

    `attempts`: number of times that the delivery was claimed; set by notify.
    `due_at`: time at which the message is to run or, while the status is `sending`, at which the claim expires. Set by
    evaluate, notify and the scheduler.
    `receipt`: summary of the channel's response; `reference`: id of the message or request at the channel's provider,
    or null; `delivered_at`: time of the channel's response. All three are set by notify together with `delivered`.
    `last_error`: reason of the last failure, null after a success. Set by notify, and by the scheduler with `dead`.
    `channel_name`: name of the channel when the delivery was created; the channel can be deleted later.
    """

    anomaly_id: UUID  # added by peewee for the foreign key
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
    def create_missing(cls, anomaly_ids: Iterable[UUID], channels: Iterable[Channel]) -> list[Self]:
        """Create the missing deliveries of anomalies to `channels`; return the unsettled ones of these anomalies."""
        ids, subscribed = list(anomaly_ids), list(channels)
        keys = [str(channel.channel_id) for channel in subscribed]
        database.execute_sql(CREATE_MISSING, (list(map(str, ids)), keys, [channel.name for channel in subscribed]))
        return list(cls.select().where(cls.anomaly.in_(ids), cls._is_unsettled()))

    @classmethod
    def claim(cls, anomaly_id: UUID, channel_id: UUID) -> Self | None:
        """Claim the delivery for sending if it is pending or dead, or if its previous claim has expired.

        Return the claimed delivery, otherwise None.
        """
        free = cls.status.in_(["pending", "dead"]) | ((cls.status == "sending") & (cls.due_at <= PRESENT))
        claimed = (
            cls.update(status="sending", attempts=cls.attempts + 1, due_at=_after(CLAIM_SECONDS))
            .where(*cls._key(anomaly_id, channel_id), free)
            .execute()
        )
        return cls.get(*cls._key(anomaly_id, channel_id)) if claimed else None

    @classmethod
    def claim_remaining_seconds(cls, anomaly_id: UUID, channel_id: UUID) -> float:
        """Return the seconds until the claim of the delivery expires, at least 0.001; 0 if it is not claimed."""
        left = peewee.fn.EXTRACT(peewee.NodeList((peewee.SQL("EPOCH FROM"), cls.due_at - PRESENT)))
        claimed = cls.select(left).where(*cls._key(anomaly_id, channel_id), cls.status == "sending").scalar()
        return max(0.001, float(claimed)) if claimed is not None else 0.0

    @classmethod
    def reschedule(cls, anomaly_id: UUID, channel_id: UUID, seconds: float, reason: str) -> None:
        """Set a delivery to `pending`, due in `seconds`, and record the reason of the temporary failure.

        No effect if the delivery is settled.
        """
        again = cls.update(status="pending", due_at=_after(seconds), last_error=reason)
        again.where(*cls._key(anomaly_id, channel_id), cls._is_unsettled()).execute()

    @classmethod
    def snooze(cls, anomaly_id: UUID, channel_id: UUID, seconds: float) -> None:
        """Snooze a pending delivery for `seconds`; no effect if it is claimed or settled."""
        later = cls.update(due_at=_after(seconds))
        later.where(*cls._key(anomaly_id, channel_id), cls.status == "pending").execute()

    @classmethod
    def record_delivered(cls, anomaly_id: UUID, channel_id: UUID, receipt: str, reference: str | None = None) -> None:
        """Record that the channel accepted the notification."""
        settled = {"status": "delivered", "receipt": receipt, "reference": reference, "delivered_at": now()}
        cls.update(**settled, last_error=None).where(*cls._key(anomaly_id, channel_id)).execute()

    @classmethod
    def record_rejected(cls, anomaly_id: UUID, channel_id: UUID, reason: str) -> None:
        """Record that the channel rejected the notification permanently."""
        cls.update(status="rejected", last_error=reason).where(*cls._key(anomaly_id, channel_id)).execute()

    @classmethod
    def mark_dead(cls, anomaly_id: UUID, channel_id: UUID, reason: str) -> None:
        """Record that the message of the delivery became a dead letter; no effect if the delivery is settled."""
        dead = cls.update(status="dead", last_error=reason)
        dead.where(*cls._key(anomaly_id, channel_id), cls._is_unsettled()).execute()

    @classmethod
    def take_overdue(cls, limit: int = 1_000) -> list[tuple[UUID, UUID]]:
        """Set `due_at` of at most `limit` overdue deliveries to now; return the (anomaly id, channel id) of each.

        Concurrent calls return different deliveries.
        """
        return list(database.execute_sql(TAKE_OVERDUE, (OVERDUE_SECONDS, limit)).fetchall())

    @classmethod
    def count_by_minute(cls, since: datetime) -> dict[datetime, int]:
        """Return the number of successful deliveries in each minute from `since`; empty minutes are omitted."""
        return count_by_minute(cls.delivered_at, since)

    @classmethod
    def _is_unsettled(cls) -> peewee.Expression:
        unsettled: peewee.Expression = cls.status.in_(["pending", "sending"])
        return unsettled

    @classmethod
    def _key(cls, anomaly_id: UUID, channel_id: UUID) -> tuple[peewee.Expression, peewee.Expression]:
        return cls.anomaly == anomaly_id, cls.channel_id == channel_id

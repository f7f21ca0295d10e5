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

#: Current time of PostgreSQL. The clocks of workers are not used: a clock that is ahead would end claims too early.
PRESENT = peewee.fn.clock_timestamp()

CREATE_MISSING = """
    INSERT INTO deliveries (anomaly_id, channel_id, channel_name, status, attempts, due_at, created_at)
    SELECT anomaly_id, channel_id, channel_name, 'pending', 0, clock_timestamp(), clock_timestamp()
    FROM unnest(%s::uuid[]) AS anomaly_id, unnest(%s::uuid[], %s::text[]) AS channel(channel_id, channel_name)
    ON CONFLICT (anomaly_id, channel_id) DO NOTHING
"""


def _after(seconds: float) -> peewee.Expression:
    later: peewee.Expression = PRESENT + timedelta(seconds=seconds)
    return later


class Delivery(Row):
    """State of the announcement of one anomaly to one channel.

    `status` is one of:
    `pending`: to be sent. Set by evaluate when it records the anomaly, and by the dispatcher after a temporary failure.
    `sending`: claimed by a worker until `due_at`. Set by the dispatcher; after a crash the claim expires and another
    attempt follows.
    `delivered`: the channel accepted the notification. Set by the dispatcher.
    `rejected`: the channel rejected the notification permanently. Set by the dispatcher.
    `dead`: not accepted within the maximum age. Set by the scheduler when it stores the dead letter; a replay sets
    `pending`.

    `attempts`: number of times that the delivery was claimed; set by the dispatcher.
    `due_at`: time from which the delivery can be claimed or, while the status is `sending`, at which the claim expires.
    Set by evaluate and the dispatcher.
    `severity_rank`: 0 for a critical anomaly, 1 for a warning, 2 for an info; set by a trigger of the table.
    `queued_at`: time at which the delivery became due first, or of its last replay; its age counts from this time.
    `receipt`: summary of the channel's response; `reference`: id of the message or request at the channel's provider,
    or null; `delivered_at`: time of the channel's response. All three are set by the dispatcher with `delivered`.
    `digest_id`: id of the digest that announced the anomaly together with others, or null. Set by the dispatcher.
    `last_error`: reason of the last failure, null after a success. Set by the dispatcher, and by the scheduler with
    `dead`.
    `channel_name`: name of the channel when the delivery was created; the channel can be deleted later.
    """

    anomaly_id: UUID  # added by peewee for the foreign key
    anomaly = peewee.ForeignKeyField(Anomaly, column_name="anomaly_id", on_delete="CASCADE", index=False)
    channel_id = peewee.UUIDField()
    channel_name = peewee.TextField()
    status = peewee.TextField(default="pending")
    attempts = peewee.IntegerField(default=0)
    due_at = time()
    severity_rank = peewee.IntegerField()
    queued_at = time()
    receipt = peewee.TextField(null=True)
    reference = peewee.TextField(null=True)
    digest_id = peewee.UUIDField(null=True)
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
    def reschedule(cls, anomaly_id: UUID, channel_id: UUID, seconds: float, reason: str) -> None:
        """Set a delivery to `pending`, due in `seconds`, and record the reason of the temporary failure.

        No effect if the delivery is settled.
        """
        again = cls.update(status="pending", due_at=_after(seconds), last_error=reason)
        again.where(*cls._key(anomaly_id, channel_id), cls._is_unsettled()).execute()

    @classmethod
    def record_delivered(
        cls, anomaly_ids: Iterable[UUID], channel_id: UUID, receipt: str, reference: str | None = None
    ) -> None:
        """Record that the channel accepted the notifications of these anomalies."""
        settled = {"status": "delivered", "receipt": receipt, "reference": reference, "delivered_at": now()}
        deliveries = (cls.anomaly.in_(list(anomaly_ids)), cls.channel_id == channel_id)
        cls.update(**settled, last_error=None).where(*deliveries).execute()

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
    def count_by_minute(cls, since: datetime) -> dict[datetime, int]:
        """Return the number of successful deliveries in each minute from `since`; empty minutes are omitted."""
        return count_by_minute(cls.delivered_at, since)

    @staticmethod
    def present() -> peewee.Function:
        """Return the current time of PostgreSQL as a value of a statement."""
        return PRESENT

    @classmethod
    def _is_unsettled(cls) -> peewee.Expression:
        unsettled: peewee.Expression = cls.status.in_(["pending", "sending"])
        return unsettled

    @classmethod
    def _key(cls, anomaly_id: UUID, channel_id: UUID) -> tuple[peewee.Expression, peewee.Expression]:
        return cls.anomaly == anomaly_id, cls.channel_id == channel_id

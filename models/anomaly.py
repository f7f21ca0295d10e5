"""An anomaly: one rule that fired for one group, because of one event."""

from datetime import datetime, timedelta
from typing import Any, Self

import peewee
from uuid_utils.compat import uuid7

from models.base import Row, count_by_minute, jsonb, now, time
from models.database import database


class Anomaly(Row):
    """What a rule found. `dedupe_key` makes it unique per rule, group and triggering event.

    `series` stands for the rule's condition and the group: its anomalies are a cooldown apart, by `cooldown_anchor`,
    which is the event's time, or its arrival when that time is out of bounds. An anomaly keeps the name and the
    version of its rule, which may be changed or deleted later.
    """

    anomaly_id = peewee.UUIDField(primary_key=True, default=uuid7)
    dedupe_key = peewee.TextField(unique=True)
    rule_id = peewee.UUIDField()
    rule_name = peewee.TextField()
    rule_version = peewee.IntegerField()
    severity = peewee.TextField()
    group_key = peewee.TextField()
    event_id = peewee.UUIDField()
    message = peewee.TextField()
    evidence = jsonb()
    request_id = peewee.TextField(null=True)
    series = peewee.TextField()
    cooldown_anchor = time()
    occurred_at = time()
    detected_at = time(default=now)

    class Meta:
        table_name = "anomalies"

    @classmethod
    def record(cls, cooldown: timedelta, **fields: Any) -> Self:
        """Store an anomaly, in the transaction of the caller, unless the series is to be quiet at this time.

        Returns the anomaly that speaks: this one, stored now or by an earlier delivery of the same event, or
        another of the series less than the `cooldown` away.
        """
        series, around = fields["series"], fields["cooldown_anchor"]
        # One at a time: two workers may have found the same thing at the same moment.
        database.execute_sql("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (series,))
        speaking = cls.get_or_none(cls.dedupe_key == fields["dedupe_key"]) or cls.get_or_none(
            (cls.series == series)
            & (cls.cooldown_anchor > around - cooldown)
            & (cls.cooldown_anchor < around + cooldown)
        )
        return speaking or cls.create(**fields)

    @classmethod
    def count_by_minute(cls, since: datetime) -> dict[datetime, int]:
        """How many were detected in each minute since then; minutes without any are left out."""
        return count_by_minute(cls.detected_at, since)

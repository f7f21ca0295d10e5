"""Anomalies. An anomaly records that a rule fired for one group because of one event."""

from datetime import datetime, timedelta
from typing import Any, Self

import peewee
from uuid_utils.compat import uuid7

from models.base import Row, count_by_minute, jsonb, now, time
from models.database import database


class Anomaly(Row):
    """One anomaly. Rows are inserted by the actor `evaluate` and never changed.

    `dedupe_key`: unique for each rule, group and triggering event.
    `rule_name`, `rule_version`: copies, because the rule can be changed or deleted later.
    `series`: key of the group and of the rule with its condition; also the key of the cooldown in Redis.
    `cooldown_anchor`: timestamp of the event, or its time of arrival if the timestamp is outside the allowed lateness.
    The anchors of two anomalies of a series are at least one cooldown apart.
    `evidence`: the verdict and sample events, as returned by `actors.pipeline.evidence.collect`.
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
        """Store an anomaly in the transaction of the caller, unless it is already stored or suppressed by a cooldown.

        Return the new anomaly, the stored anomaly with the same `dedupe_key`, or a stored anomaly of the series whose
        `cooldown_anchor` is less than `cooldown` away.
        """
        series, around = fields["series"], fields["cooldown_anchor"]
        # Lock the series: otherwise two workers could record anomalies within one cooldown at the same time.
        database.execute_sql("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (series,))
        existing = cls.get_or_none(cls.dedupe_key == fields["dedupe_key"]) or cls.get_or_none(
            (cls.series == series)
            & (cls.cooldown_anchor > around - cooldown)
            & (cls.cooldown_anchor < around + cooldown)
        )
        return existing or cls.create(**fields)

    @classmethod
    def count_by_minute(cls, since: datetime) -> dict[datetime, int]:
        """Return the number of anomalies detected in each minute from `since`; empty minutes are omitted."""
        return count_by_minute(cls.detected_at, since)

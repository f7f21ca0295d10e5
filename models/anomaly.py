"""An anomaly: one rule that fired for one group, because of one event."""

from datetime import datetime
from typing import Any

import peewee
from uuid_utils.compat import uuid7

from models.base import Row, count_by_minute, jsonb, now, time


class Anomaly(Row):
    """What a rule found. `dedupe` makes it unique per rule, group and triggering event.

    It keeps the name and the version of its rule, which may be changed or deleted later.
    """

    anomaly_id = peewee.UUIDField(primary_key=True, default=uuid7)
    dedupe = peewee.TextField(unique=True)
    rule_id = peewee.UUIDField()
    rule_name = peewee.TextField()
    rule_version = peewee.IntegerField()
    severity = peewee.TextField()
    group_key = peewee.TextField()
    event_id = peewee.UUIDField()
    message = peewee.TextField()
    evidence = jsonb()
    request_id = peewee.TextField(null=True)
    occurred_at = time()
    detected_at = time(default=now)

    class Meta:
        table_name = "anomalies"

    @classmethod
    def record(cls, **fields: Any) -> "Anomaly":
        """Store an anomaly, or find the one that an earlier delivery of the same event stored."""
        cls.insert(**fields).on_conflict(conflict_target=[cls.dedupe], action="IGNORE").execute()
        return cls.get(cls.dedupe == fields["dedupe"])

    @classmethod
    def count_by_minute(cls, since: datetime) -> dict[datetime, int]:
        """How many were detected in each minute since then; minutes without any are left out."""
        return count_by_minute(cls.detected_at, since)

"""Throughput: numbers of events, anomalies, deliveries and dead letters per minute."""

from datetime import datetime
from typing import Any

import peewee

from models.base import Row, time


class Throughput(Row):
    """Throughput of one minute; written by the roll-up.

    `late`: events outside the allowed lateness of a rule. `conflicting`: events whose id was stored with other content.
    `queue_depth`, `oldest_age_seconds`: state of the queues at the last roll-up during the minute.
    """

    minute = time(primary_key=True)
    accepted = peewee.BigIntegerField(default=0)
    persisted = peewee.BigIntegerField(default=0)
    evaluated = peewee.BigIntegerField(default=0)
    late = peewee.BigIntegerField(default=0)
    conflicting = peewee.BigIntegerField(default=0)
    anomalies = peewee.BigIntegerField(default=0)
    delivered = peewee.BigIntegerField(default=0)
    dead = peewee.BigIntegerField(default=0)
    queue_depth = peewee.BigIntegerField(default=0)
    oldest_age_seconds = peewee.DoubleField(default=0)

    class Meta:
        table_name = "throughput"

    @classmethod
    def record(cls, minute: datetime, **counts: Any) -> None:
        """Store the counts of a minute. If the minute is already stored, replace only these counts."""
        cls.insert(minute=minute, **counts).on_conflict(conflict_target=[cls.minute], update=counts).execute()

"""One minute of work, rolled up."""

from datetime import datetime
from typing import Any

import peewee

from models.base import Row, time


class Throughput(Row):
    """What happened in one minute, in events; and the queues as they were when it was last rolled up."""

    minute = time(primary_key=True)
    accepted = peewee.BigIntegerField(default=0)
    persisted = peewee.BigIntegerField(default=0)
    evaluated = peewee.BigIntegerField(default=0)
    late = peewee.BigIntegerField(default=0)
    anomalies = peewee.BigIntegerField(default=0)
    delivered = peewee.BigIntegerField(default=0)
    dead = peewee.BigIntegerField(default=0)
    queue_depth = peewee.BigIntegerField(default=0)
    oldest_age_seconds = peewee.DoubleField(default=0)

    class Meta:
        table_name = "throughput"

    @classmethod
    def record(cls, minute: datetime, **counts: Any) -> None:
        """Store the counts of a minute, in place of what was known of it before."""
        cls.insert(minute=minute, **counts).on_conflict(conflict_target=[cls.minute], update=counts).execute()

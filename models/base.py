"""What all rows share."""

from datetime import UTC, datetime
from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField, DateTimeTZField

from models.database import database


def now() -> datetime:
    """The present, with its zone: naive times never enter the database."""
    return datetime.now(UTC)


class Row(peewee.Model):
    """A row of the database. Tables and indexes are made by the migrations alone."""

    class Meta:
        database = database


def jsonb(**options: Any) -> BinaryJSONField:
    """A jsonb column without the GIN index that peewee would add to each."""
    return BinaryJSONField(index=False, **options)


def time(**options: Any) -> DateTimeTZField:
    return DateTimeTZField(**options)


def count_by_minute(column: DateTimeTZField, since: datetime) -> dict[datetime, int]:
    """How many rows have their time in each minute since then, by the minute."""
    minute = peewee.fn.DATE_TRUNC("minute", column)
    rows = column.model.select(minute, peewee.fn.COUNT("*")).where(column >= since).group_by(minute).tuples()
    return dict(rows)

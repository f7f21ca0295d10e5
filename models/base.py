"""Base class and column types of all models."""

from datetime import UTC, datetime
from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField, DateTimeTZField

from models.database import database


def now() -> datetime:
    """Return the current time in UTC, with a time zone."""
    return datetime.now(UTC)


class Row(peewee.Model):
    """Base class of all models. Only migrations create tables and indexes."""

    class Meta:
        database = database


def jsonb(**options: Any) -> BinaryJSONField:
    """Return a jsonb column without the GIN index that peewee would add."""
    return BinaryJSONField(index=False, **options)


def time(**options: Any) -> DateTimeTZField:
    """Return a timestamptz column."""
    return DateTimeTZField(**options)


def count_by_minute(column: DateTimeTZField, since: datetime) -> dict[datetime, int]:
    """Return the number of rows in each minute of `column` from `since`; empty minutes are omitted."""
    minute = peewee.fn.DATE_TRUNC("minute", column)
    rows = column.model.select(minute, peewee.fn.COUNT("*")).where(column >= since).group_by(minute).tuples()
    return dict(rows)

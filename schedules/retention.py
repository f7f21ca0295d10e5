"""Deletion of rows that are older than their retention period, in small batches that do not delay other queries."""

from datetime import datetime, timedelta

import structlog

from eventpulse.times import iso_utc
from models.base import now
from models.database import connection, database

log = structlog.get_logger()

BATCH_ROWS = 5_000
#: Time for which suppressed firings are kept. It is longer than a usual redelivery takes, because a redelivered firing
#: whose row was deleted is counted again.
SUPPRESSED_FIRINGS_HOURS = 1
#: Statement that deletes one batch of rows whose time is before a limit. Each table has an index on the column.
DELETE = """
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {column} < %s LIMIT %s))
"""


def drop_old_events(days: int) -> int:
    """Delete events received more than `days` days ago and return their number; if `days` is 0, keep all events.

    The timestamp of an event is not used, because a client may set a timestamp that is far in the future.
    """
    return _delete_older_than(days, "events", "received_at")


def drop_old_anomalies(days: int) -> int:
    """Delete anomalies detected more than `days` days ago, and their deliveries; if `days` is 0, keep all anomalies.

    Return the number of deleted anomalies.
    """
    return _delete_older_than(days, "anomalies", "detected_at")


def drop_old_dead_letters(days: int) -> int:
    """Delete dead letters more than `days` days old and return their number; if `days` is 0, keep all of them."""
    return _delete_older_than(days, "dead_letters", "dead_lettered_at")


def drop_old_throughput(days: int) -> int:
    """Delete throughput rows more than `days` days old and return their number; if `days` is 0, keep all rows."""
    return _delete_older_than(days, "throughput", "minute")


def drop_old_suppressed_firings() -> int:
    """Delete suppressed firings more than `SUPPRESSED_FIRINGS_HOURS` old and return their number."""
    return _delete_before(now() - timedelta(hours=SUPPRESSED_FIRINGS_HOURS), "suppressed_firings", "suppressed_at")


def _delete_older_than(days: int, table: str, column: str) -> int:
    if days == 0:
        return 0
    return _delete_before(now() - timedelta(days=days), table, column)


def _delete_before(cutoff: datetime, table: str, column: str) -> int:
    statement = DELETE.format(table=table, column=column)
    total = 0
    while True:
        with connection():  # one short transaction per batch, so that locks are held only briefly
            deleted: int = database.execute_sql(statement, (cutoff, BATCH_ROWS)).rowcount
        total += deleted
        if deleted < BATCH_ROWS:
            break
    if total:
        log.info("old_rows_deleted", table=table, rows=total, before=iso_utc(cutoff))
    return total

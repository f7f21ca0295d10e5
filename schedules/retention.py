"""Deletion of rows that are older than the settings allow, in batches small enough not to disturb other queries."""

from datetime import timedelta

import structlog

from models.base import now
from models.database import connection, database

log = structlog.get_logger()

BATCH_ROWS = 5_000
#: Each table has an index on its column.
DELETE = """
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {column} < %s LIMIT %s))
"""


def drop_old_events(days: int) -> int:
    """Delete events received more than `days` ago and return their number; 0 days: keep all.

    The time in an event itself is set by its client, and may be far in the future.
    """
    return _delete_older_than(days, "events", "received_at")


def drop_old_anomalies(days: int) -> int:
    """Delete anomalies detected more than `days` ago, and their deliveries; return their number; 0 days: keep all."""
    return _delete_older_than(days, "anomalies", "detected_at")


def drop_old_dead_letters(days: int) -> int:
    """Delete dead letters that are more than `days` old and return their number; 0 days: keep all."""
    return _delete_older_than(days, "dead_letters", "dead_lettered_at")


def drop_old_throughput(days: int) -> int:
    """Delete the throughput of minutes more than `days` ago and return their number; 0 days: keep all."""
    return _delete_older_than(days, "throughput", "minute")


def _delete_older_than(days: int, table: str, column: str) -> int:
    if days == 0:
        return 0
    cutoff = now() - timedelta(days=days)
    statement = DELETE.format(table=table, column=column)
    total = 0
    while True:
        with connection():  # one short transaction per batch, so that locks are held only briefly
            deleted: int = database.execute_sql(statement, (cutoff, BATCH_ROWS)).rowcount
        total += deleted
        if deleted < BATCH_ROWS:
            break
    if total:
        log.info("old_rows_deleted", table=table, rows=total, older_than_days=days)
    return total

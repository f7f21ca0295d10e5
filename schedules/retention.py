"""Forget what is older than the settings allow, in batches small enough not to be felt."""

from datetime import timedelta

import structlog

from models.base import now
from models.database import connection, database

log = structlog.get_logger()

BATCH = 5_000

# By our own clock: a client's time may lie far in the future.
EVENTS = """
    DELETE FROM events WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM events WHERE received_at < %s LIMIT %s))
"""
# Their deliveries go with them.
ANOMALIES = """
    DELETE FROM anomalies WHERE anomaly_id IN (
        SELECT anomaly_id FROM anomalies WHERE detected_at < %s LIMIT %s)
"""


def drop_old_events(days: int) -> int:
    """Delete the events received more than `days` ago, or none when `days` is 0; returns how many."""
    return _drop("events", EVENTS, days)


def drop_old_anomalies(days: int) -> int:
    """Delete the anomalies detected more than `days` ago, or none when `days` is 0; returns how many."""
    return _drop("anomalies", ANOMALIES, days)


def _drop(what: str, statement: str, days: int) -> int:
    if days == 0:
        return 0
    cutoff = now() - timedelta(days=days)
    total = 0
    while True:
        with connection():  # one short transaction a batch: locks and dead rows stay few
            dropped: int = database.execute_sql(statement, (cutoff, BATCH)).rowcount
        total += dropped
        if dropped < BATCH:
            break
    if total:
        log.info("dropped_old_rows", table=what, rows=total, older_than_days=days)
    return total

"""A pending evaluation: stored events whose evaluation is not confirmed yet."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Self

import peewee
from playhouse.postgres_ext import ArrayField

from models.base import Row, time
from models.database import database

#: Time after which a pending evaluation is overdue: longer than all retries of an evaluation without a backlog.
OVERDUE_SECONDS = 120
#: Maximum number of pending evaluations that one call of `overdue` returns.
OVERDUE_LIMIT = 1_000

# The commit does not wait for the disk, because a lost deletion is harmless: evaluating the events again has no effect.
CONFIRM = "SET LOCAL synchronous_commit = off; DELETE FROM pending_evaluations WHERE bundle_id = ANY(%s)"
# SKIP LOCKED: waiting for rows that are being confirmed could deadlock, and these rows need no snooze.
SNOOZE = """
    UPDATE pending_evaluations SET queued_at = clock_timestamp() WHERE bundle_id IN (
        SELECT bundle_id FROM pending_evaluations WHERE bundle_id = ANY(%s) ORDER BY bundle_id FOR UPDATE SKIP LOCKED)
"""
INSERT_PENDING = """
    INSERT INTO pending_evaluations (bundle_id, event_ids)
    SELECT bundle_id, event_ids::uuid[] FROM unnest(%s::text[], %s::text[]) AS pending(bundle_id, event_ids)
"""


class PendingEvaluation(Row):
    """One bundle of events that are stored and whose evaluation is not confirmed yet.

    The row is inserted together with the events and deleted after their evaluation. One row for each bundle costs less
    than one row for each event. If the bundle is lost, or if only a part of its messages is evaluated, the row remains
    until it is overdue; then the events are queued again.

    `queued_at`: set when the events are stored, and again when the row is snoozed.
    """

    bundle_id = peewee.TextField(primary_key=True)
    event_ids = ArrayField(peewee.UUIDField, index=False)
    queued_at = time()

    class Meta:
        table_name = "pending_evaluations"

    @classmethod
    def confirm(cls, bundle_ids: Sequence[str]) -> None:
        """Delete the rows of evaluated bundles; ids without a row are ignored."""
        database.execute_sql(CONFIRM, (list(bundle_ids),))

    @classmethod
    def overdue(cls, seconds: float = OVERDUE_SECONDS) -> list[Self]:
        """Return the oldest rows that were queued more than `seconds` ago, at most `OVERDUE_LIMIT`."""
        limit = peewee.fn.clock_timestamp() - timedelta(seconds=seconds)
        return list(cls.select().where(cls.queued_at < limit).order_by(cls.queued_at).limit(OVERDUE_LIMIT))

    @classmethod
    def split(cls, bundle_id: str, parts: Mapping[str, Sequence[str]]) -> bool:
        """Replace the row of a bundle with a row for each of `parts`, which maps bundle ids to event ids.

        `parts` may be empty. Return False, and insert nothing, if the row of the bundle no longer exists.
        """
        with database.atomic():
            existed = bool(cls.delete().where(cls.bundle_id == bundle_id).execute())
            if existed and parts:
                ids = ["{" + ",".join(event_ids) + "}" for event_ids in parts.values()]
                database.execute_sql(INSERT_PENDING, (list(parts), ids))
        return existed

    @classmethod
    def snooze(cls, bundle_ids: Sequence[str]) -> None:
        """Restart the time until the rows of these bundles are overdue, because the bundles are still queued."""
        database.execute_sql(SNOOZE, (list(bundle_ids),))

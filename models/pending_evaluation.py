"""A handover: events that were stored and passed on to be evaluated, until that is confirmed."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Self

import peewee
from playhouse.postgres_ext import ArrayField

from models.base import Row, time
from models.database import database

#: Longer than all the retries of an evaluation take while the queue is not behind.
OVERDUE_SECONDS = 120
AT_ONCE = 1_000

# To lose a confirmation in a crash costs one evaluation more, which changes nothing: it need not wait for the disk.
CONFIRM = "SET LOCAL synchronous_commit = off; DELETE FROM pending_evaluations WHERE bundle_id = ANY(%s)"
# What is being confirmed just now needs no putting off, and must not be waited for: each could wait for the other.
PUT_OFF = """
    UPDATE pending_evaluations SET queued_at = clock_timestamp() WHERE bundle_id IN (
        SELECT bundle_id FROM pending_evaluations WHERE bundle_id = ANY(%s) ORDER BY bundle_id FOR UPDATE SKIP LOCKED)
"""
INSERT_PENDING = """
    INSERT INTO pending_evaluations (bundle_id, event_ids)
    SELECT bundle_id, event_ids::uuid[] FROM unnest(%s::text[], %s::text[]) AS h(bundle_id, event_ids)
"""


class PendingEvaluation(Row):
    """One bundle of events on its way from persist to evaluate: stored in their transaction, deleted when it is done.

    So rows are made and deleted a bundle at a time, and none of the events'. A bundle that was taken apart leaves its
    row behind, as one does that is lost: when it is overdue, its events are evaluated once more, each by itself.
    """

    bundle_id = peewee.TextField(primary_key=True)
    event_ids = ArrayField(peewee.UUIDField, index=False)
    queued_at = time()

    class Meta:
        table_name = "pending_evaluations"

    @classmethod
    def confirm(cls, bundle_ids: Sequence[str]) -> None:
        """These were evaluated; a bundle of one also when it was taken apart."""
        whole = [bundle_id[2:] if bundle_id.startswith("1.1*") else bundle_id for bundle_id in bundle_ids]
        database.execute_sql(CONFIRM, (whole,))

    @classmethod
    def overdue(cls, seconds: float = OVERDUE_SECONDS) -> list[Self]:
        """The oldest that were not confirmed for so long, at most `AT_ONCE`."""
        long_ago = peewee.fn.clock_timestamp() - timedelta(seconds=seconds)
        return list(cls.select().where(cls.queued_at < long_ago).order_by(cls.queued_at).limit(AT_ONCE))

    @classmethod
    def divide(cls, bundle_id: str, parts: Mapping[str, Sequence[str]]) -> bool:
        """Hand its events over as these bundles instead, or as none; returns whether it still was to be."""
        with database.atomic():
            was = bool(cls.delete().where(cls.bundle_id == bundle_id).execute())
            if was and parts:
                ids = ["{" + ",".join(event_ids) + "}" for event_ids in parts.values()]
                database.execute_sql(INSERT_PENDING, (list(parts), ids))
        return was

    @classmethod
    def snooze(cls, bundle_ids: Sequence[str]) -> None:
        """These wait in their queue: they are looked at again when they are overdue again."""
        database.execute_sql(PUT_OFF, (list(bundle_ids),))

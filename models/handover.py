"""A handover: events that were stored and passed on to be evaluated, until that is confirmed."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Self

import peewee
from playhouse.postgres_ext import ArrayField

from models.base import Row, time
from models.database import database

#: Longer than the retries of an evaluation take, all of them.
OVERDUE_SECONDS = 120
AT_ONCE = 100

# To lose a confirmation in a crash costs one evaluation more, which changes nothing: it need not wait for the disk.
CONFIRM = "SET LOCAL synchronous_commit = off; DELETE FROM handovers WHERE bundle_id = ANY(%s)"


class Handover(Row):
    """One bundle of events on its way from persist to evaluate: stored in their transaction, deleted when it is done.

    So rows are made and deleted a bundle at a time, and none of the events'. A bundle that was taken apart leaves its
    row behind, as one does that is lost: both are evaluated once more when they are overdue.
    """

    bundle_id = peewee.TextField(primary_key=True)
    event_ids = ArrayField(peewee.UUIDField, index=False)
    handed_at = time()

    class Meta:
        table_name = "handovers"

    @classmethod
    def confirm(cls, bundle_ids: Sequence[str]) -> None:
        """These were evaluated."""
        database.execute_sql(CONFIRM, (list(bundle_ids),))

    @classmethod
    def overdue(cls, seconds: float = OVERDUE_SECONDS) -> list[Self]:
        """The oldest that were not confirmed for so long, at most `AT_ONCE`."""
        long_ago = peewee.fn.clock_timestamp() - timedelta(seconds=seconds)
        return list(cls.select().where(cls.handed_at < long_ago).order_by(cls.handed_at).limit(AT_ONCE))

    @classmethod
    def renew(cls, bundle_id: str, new_bundle_id: str) -> bool:
        """It is handed over now, as this bundle; returns whether it still was to be."""
        renewed = cls.update(bundle_id=new_bundle_id, handed_at=peewee.fn.clock_timestamp())
        return bool(renewed.where(cls.bundle_id == bundle_id).execute())

    @classmethod
    def put_off(cls, bundle_ids: Sequence[str]) -> None:
        """These wait in their queue: they are looked at again when they are overdue again."""
        cls.update(handed_at=peewee.fn.clock_timestamp()).where(cls.bundle_id.in_(bundle_ids)).execute()

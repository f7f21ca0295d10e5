"""Notices on the other channels that a channel is failing, or that it works again."""

from typing import Any
from uuid import UUID

import peewee

from models.base import Row, time
from models.channel_state import Outage
from models.database import database

#: Time for which a notice is claimed, and time after which an undelivered notice is out of date.
CLAIM_SECONDS, EXPIRY_SECONDS = 15, 3_600

# Not on channels that are failing themselves: two failing channels would announce each other.
ADD = """
    INSERT INTO channel_notices
    SELECT gen_random_uuid(), channel.channel_id, %(subject)s, %(name)s, %(is_failing)s, %(reason)s, %(failing_since)s,
        (SELECT count(*) FROM deliveries
         WHERE deliveries.channel_id = %(subject)s AND status IN ('pending', 'sending')),
        clock_timestamp(), clock_timestamp()
    FROM channels AS channel LEFT JOIN channel_states AS state USING (channel_id, version)
    WHERE channel.enabled AND channel.channel_id <> %(subject)s AND state.failing_since IS NULL
    RETURNING channel_id
"""
CLAIM = """
    UPDATE channel_notices SET due_at = clock_timestamp() + make_interval(secs => %s)
    WHERE notice_id = (
        SELECT notice_id FROM channel_notices
        WHERE channel_id = %s AND due_at <= clock_timestamp()
            AND created_at > clock_timestamp() - make_interval(secs => %s)
        ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING notice_id
"""
DROP_OLD = "DELETE FROM channel_notices WHERE created_at < clock_timestamp() - make_interval(secs => %s)"


class ChannelNotice(Row):
    """Notice on the channel `channel_id` about the channel `subject_id`; the row is deleted when it is settled.

    `is_failing`: whether the subject is failing; otherwise it works again.
    `reason`: last error of the subject; `failing_since`: begin of its outage; `waiting`: number of its waiting alerts.
    `due_at`: time at which the notice can be claimed.
    """

    notice_id = peewee.UUIDField(primary_key=True)
    channel_id = peewee.UUIDField()
    subject_id = peewee.UUIDField()
    subject_name = peewee.TextField()
    is_failing = peewee.BooleanField()
    reason = peewee.TextField()
    failing_since = time()
    waiting = peewee.IntegerField()
    due_at = time()
    created_at = time()

    class Meta:
        table_name = "channel_notices"

    @classmethod
    def add(cls, outage: Outage, *, is_failing: bool) -> list[UUID]:
        """Add a notice on each enabled channel that works; return the ids of these channels.

        Undelivered notices about the same subject are out of date; they are deleted.
        """
        cls.delete().where(cls.subject_id == outage.channel_id).execute()
        values = {
            "subject": outage.channel_id,
            "name": outage.name,
            "is_failing": is_failing,
            "reason": outage.reason,
            "failing_since": outage.failing_since,
        }
        return [channel_id for (channel_id,) in database.execute_sql(ADD, values).fetchall()]

    @classmethod
    def claim(cls, channel_id: UUID) -> "ChannelNotice | None":
        """Claim the oldest notice of a channel, and return it; return None if there is none."""
        row: Any = database.execute_sql(CLAIM, (CLAIM_SECONDS, channel_id, EXPIRY_SECONDS)).fetchone()
        return cls.get_by_id(row[0]) if row else None

    @classmethod
    def settle(cls, notice_id: UUID) -> None:
        """Delete a notice that was sent or rejected."""
        cls.delete().where(cls.notice_id == notice_id).execute()

    @classmethod
    def release(cls, notice_id: UUID) -> None:
        """Release a claimed notice, so that it can be claimed again."""
        cls.update(due_at=peewee.fn.clock_timestamp()).where(cls.notice_id == notice_id).execute()

    @classmethod
    def drop_old(cls) -> None:
        """Delete the notices that are out of date."""
        database.execute_sql(DROP_OLD, (EXPIRY_SECONDS,))

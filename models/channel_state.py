"""State of each channel, which all workers share: pauses after failures, and the pace of a channel that throttles."""

from datetime import datetime
from typing import Any, NamedTuple, Self
from uuid import UUID

import peewee

from models.base import Row, time
from models.channel import Channel
from models.database import database

#: Time for which a probe of a failing channel reserves the channel: the time for which a delivery is claimed.
PROBE_SECONDS = 15

READ = """
    SELECT failures, interval_seconds, extract(epoch FROM paused_until - clock_timestamp())::float8, failing_since,
        accepting_since IS NULL OR accepting_since < clock_timestamp() - make_interval(secs => %s),
        announced_at IS NOT NULL
    FROM channel_states WHERE channel_id = %s AND version = %s
"""
# After each send, a throttled channel is probed for a faster pace: its interval is 2 % shorter.
RESERVE = """
    UPDATE channel_states SET
        paused_until = clock_timestamp() + make_interval(secs => CASE WHEN failures > 0 THEN %s
                                                                  ELSE interval_seconds END),
        interval_seconds = CASE WHEN interval_seconds < 0.05 THEN 0 ELSE interval_seconds * 0.98 END
    WHERE channel_id = %s AND version = %s AND (paused_until IS NULL OR paused_until <= clock_timestamp())
"""
# The columns of an earlier version of the channel do not apply to the current version.
FORGET = "DELETE FROM channel_states WHERE channel_id = %s AND version < %s"
ADD = """
    INSERT INTO channel_states (channel_id, version) SELECT channel_id, version FROM channels
    WHERE channel_id = %s AND version = %s ON CONFLICT (channel_id) DO NOTHING
"""
FAIL = """
    UPDATE channel_states SET failures = greatest(failures, %s), last_error = %s,
        paused_until = clock_timestamp() + make_interval(secs => %s),
        failing_since = coalesce(failing_since, clock_timestamp())
    WHERE channel_id = %s AND version = %s
"""
THROTTLE = """
    UPDATE channel_states SET interval_seconds = greatest(interval_seconds * 1.5, 0.25), last_error = %s,
        paused_until = clock_timestamp() + make_interval(secs => %s)
    WHERE channel_id = %s AND version = %s
"""
# The server responds, so the channel is not paused. It counts as failing until it accepts a notification.
REJECT = """
    UPDATE channel_states SET failures = 0, last_error = %s, paused_until = NULL,
        failing_since = coalesce(failing_since, clock_timestamp())
    WHERE channel_id = %s AND version = %s
"""
RECOVER = """
    UPDATE channel_states SET failures = 0, failing_since = NULL, announced_at = NULL, last_error = NULL,
        accepting_since = clock_timestamp(), paused_until = clock_timestamp() + make_interval(secs => interval_seconds)
    WHERE channel_id = %s AND version = %s AND failing_since IS NOT NULL
"""
# Each outage is announced by one process, which sets announced_at.
TAKE_UNANNOUNCED = """
    UPDATE channel_states AS state SET announced_at = clock_timestamp() FROM channels AS channel
    WHERE channel.channel_id = state.channel_id AND channel.version = state.version AND channel.enabled
        AND announced_at IS NULL AND failing_since < clock_timestamp() - make_interval(secs => %s)
    RETURNING state.channel_id, channel.name, coalesce(state.last_error, ''), state.failing_since
"""


class Condition(NamedTuple):
    """Condition of a channel when a worker is about to send to it.

    `pause_seconds`: time until the next send is allowed; not positive if it is allowed now.
    `accepts_steadily`: whether the channel has not recovered from an outage in the last few seconds.
    """

    failures: int = 0
    interval_seconds: float = 0.0
    pause_seconds: float = 0.0
    failing_since: datetime | None = None
    accepts_steadily: bool = True
    is_announced: bool = False

    @property
    def sends_alone(self) -> bool:
        """Whether the system sends only one notification at a time: a probe, or the next one at the channel's pace."""
        return self.failures > 0 or self.interval_seconds > 0


class Outage(NamedTuple):
    """Channel that fails, or that has failed: the subject of notices on the other channels."""

    channel_id: UUID
    name: str
    reason: str
    failing_since: datetime


class ChannelState(Row):
    """State of one version of a channel; without a row, the channel is healthy. Set by the worker that sends.

    `version`: version of the channel. The state of an earlier version is ignored, so that a repaired channel is used
    immediately.
    `failures`: number of failed sends since the last success; the channel is paused after each of them.
    `interval_seconds`: minimum time between two sends to a channel that throttles, or 0.
    `paused_until`: time of the next send.
    `failing_since`: time of the first failure or rejection since the last success, or null.
    `accepting_since`: time of the last recovery, or null.
    `announced_at`: time at which the outage was announced on the other channels, or null. Set by the scheduler.
    `last_error`: reason of the last failure, rejection or throttling since the last success, or null.
    """

    channel_id = peewee.UUIDField(primary_key=True)
    version = peewee.IntegerField()
    failures = peewee.IntegerField(default=0)
    interval_seconds = peewee.DoubleField(default=0)
    paused_until = time(null=True)
    failing_since = time(null=True)
    accepting_since = time(null=True)
    announced_at = time(null=True)
    last_error = peewee.TextField(null=True)

    class Meta:
        table_name = "channel_states"

    @classmethod
    def of(cls, channel: Channel) -> Self | None:
        """Return the state of the current version of a channel, or None."""
        return cls.get_or_none(cls.channel_id == channel.channel_id, cls.version == channel.version)

    @classmethod
    def condition(cls, channel: Channel, steady_seconds: float) -> Condition:
        """Return the condition of a channel; it accepts steadily `steady_seconds` after its last recovery."""
        row: Any = database.execute_sql(READ, (steady_seconds, channel.channel_id, channel.version)).fetchone()
        return Condition(row[0], row[1], row[2] or 0.0, *row[3:]) if row else Condition()

    @classmethod
    def reserve(cls, channel: Channel) -> bool:
        """Reserve the next send to a channel that sends alone; return False if another worker has reserved it."""
        return cls._execute(RESERVE, PROBE_SECONDS, channel=channel) == 1

    @classmethod
    def record_failure(cls, channel: Channel, failures: int, pause_seconds: float, reason: str) -> None:
        """Record a failed send, the number of failures including this one, and pause the channel."""
        cls._change(FAIL, failures, reason, pause_seconds, channel=channel)

    @classmethod
    def record_throttled(cls, channel: Channel, pause_seconds: float, reason: str) -> None:
        """Pause a channel that accepts notifications only at a slower pace, and increase its interval."""
        cls._change(THROTTLE, reason, pause_seconds, channel=channel)

    @classmethod
    def record_rejected(cls, channel: Channel, reason: str) -> None:
        """Record that the channel rejected a notification permanently."""
        cls._change(REJECT, reason, channel=channel)

    @classmethod
    def record_recovered(cls, channel: Channel) -> bool:
        """Record the success of a failing channel; return False if another worker has recorded it."""
        return cls._execute(RECOVER, channel=channel) == 1

    @classmethod
    def reset(cls, channel: Channel) -> None:
        """Delete the state of a channel, so that it is used immediately."""
        cls.delete().where(cls.channel_id == channel.channel_id).execute()

    @classmethod
    def take_unannounced(cls, failing_seconds: float) -> list[Outage]:
        """Mark the outages that last for `failing_seconds` and are not announced as announced; return them."""
        return [Outage(*row) for row in database.execute_sql(TAKE_UNANNOUNCED, (failing_seconds,)).fetchall()]

    @classmethod
    def _change(cls, statement: str, *values: Any, channel: Channel) -> None:
        cls._execute(FORGET, channel=channel)
        cls._execute(ADD, channel=channel)
        cls._execute(statement, *values, channel=channel)

    @classmethod
    def _execute(cls, statement: str, *values: Any, channel: Channel) -> int:
        rows: int = database.execute_sql(statement, (*values, channel.channel_id, channel.version)).rowcount
        return rows

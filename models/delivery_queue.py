"""Queue of each channel: its unsettled deliveries, the most severe first, and the oldest of them first."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7

from models.database import database
from models.delivery import Delivery

#: Time after which a claim expires; longer than the maximum duration of a send.
CLAIM_SECONDS = 15
#: Time from `due_at` until a delivery is overdue, because the wake-up of its channel was probably lost.
OVERDUE_SECONDS = 10
#: Maximum number of deliveries in one digest.
MAX_DIGEST = 10_000

IN_ORDER = "severity_rank, queued_at, anomaly_id"
#: Order of a probe of a channel that fails for a long time: one message may be the cause of all failures.
FEWEST_ATTEMPTS_FIRST = "attempts, severity_rank, queued_at"
# clock_timestamp(): the clocks of workers are not used, because a clock that is ahead would end claims too early.
CLAIM = """
    UPDATE deliveries SET status = 'sending', attempts = attempts + 1, digest_id = NULL,
        due_at = clock_timestamp() + make_interval(secs => %s)
    WHERE (anomaly_id, channel_id) IN (
        SELECT anomaly_id, channel_id FROM deliveries
        WHERE channel_id = %s AND status IN ('pending', 'sending') AND due_at <= clock_timestamp()
        ORDER BY {order} LIMIT %s FOR UPDATE SKIP LOCKED)
    RETURNING anomaly_id, channel_id, attempts, severity_rank, queued_at
"""
NEXT_DUE = """
    SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM deliveries
    WHERE channel_id = %s AND status IN ('pending', 'sending')
"""
WAITING_LONG = """
    SELECT count(*) FROM (
        SELECT FROM deliveries
        WHERE channel_id = %s AND status = 'pending' AND severity_rank > 0
            AND queued_at < clock_timestamp() - make_interval(secs => %s)
        LIMIT %s) AS waiting
"""
HAS_CRITICAL = """
    SELECT EXISTS (
        SELECT FROM deliveries
        WHERE channel_id = %s AND status IN ('pending', 'sending') AND severity_rank = 0
            AND due_at <= clock_timestamp())
"""
LOCK_DIGEST = "SELECT pg_try_advisory_xact_lock(hashtextextended('digest:' || %s, 0))"
CLAIM_DIGEST = """
    UPDATE deliveries SET status = 'sending', attempts = attempts + 1, digest_id = %s,
        due_at = clock_timestamp() + make_interval(secs => %s)
    WHERE (anomaly_id, channel_id) IN (
        SELECT anomaly_id, channel_id FROM deliveries
        WHERE channel_id = %s AND status = 'pending' AND severity_rank > 0
            AND due_at <= clock_timestamp()
        ORDER BY severity_rank, queued_at LIMIT %s FOR UPDATE SKIP LOCKED)
"""
SUMMARY = """
    SELECT rule_name, severity, count(*), min(detected_at), max(detected_at)
    FROM deliveries JOIN anomalies USING (anomaly_id)
    WHERE channel_id = %s AND digest_id = %s AND status IN ('pending', 'sending')
    GROUP BY rule_name, severity ORDER BY count(*) DESC, rule_name, severity
"""
SETTLE_ALL = """
    UPDATE deliveries SET status = 'rejected', last_error = %s
    WHERE channel_id = %s AND status IN ('pending', 'sending') AND due_at <= clock_timestamp()
"""
NOTE_ERROR = """
    UPDATE deliveries SET last_error = %s
    WHERE channel_id = %s AND status IN ('pending', 'sending') AND last_error IS DISTINCT FROM %s
"""
OVERDUE_CHANNELS = """
    SELECT DISTINCT channel_id FROM deliveries
    WHERE status IN ('pending', 'sending') AND due_at < clock_timestamp() - make_interval(secs => %(seconds)s)
    UNION SELECT channel_id FROM channel_notices
    WHERE due_at < clock_timestamp() - make_interval(secs => %(seconds)s)
"""
# A delivery that was never tried expires only if its channel fails: the workers may have been stopped.
EXPIRE = """
    UPDATE deliveries SET status = 'dead', last_error = coalesce(last_error, 'not delivered in time')
    WHERE (anomaly_id, channel_id) IN (
        SELECT anomaly_id, channel_id FROM deliveries
        WHERE status = 'pending'
            AND queued_at < clock_timestamp() - make_interval(secs => %s)
            AND (attempts > 0 OR channel_id IN (SELECT channel_id FROM channel_states WHERE failures > 0))
        LIMIT %s FOR UPDATE SKIP LOCKED)
    RETURNING anomaly_id, channel_id, attempts, last_error
"""
REVIVE = """
    UPDATE deliveries SET status = 'pending', queued_at = clock_timestamp(), due_at = clock_timestamp()
    WHERE anomaly_id = %s AND channel_id = %s AND status = 'dead'
"""
BACKLOG = """
    SELECT count(*), extract(epoch FROM clock_timestamp() - min(queued_at))::float8 FROM deliveries
    WHERE channel_id = %s AND status IN ('pending', 'sending')
"""


class ClaimedDelivery(NamedTuple):
    """Key of a claimed delivery, and the number of its attempts including the current one."""

    anomaly_id: UUID
    channel_id: UUID
    attempts: int


class Group(NamedTuple):
    """Deliveries of a digest with the same rule and severity: their number, and the times of the first and the last."""

    rule_name: str
    severity: str
    size: int
    first: datetime
    last: datetime


class ClaimedDigest(NamedTuple):
    """Claimed deliveries that one notification announces, by rule and severity, the largest group first."""

    digest_id: UUID
    channel_id: UUID
    groups: list[Group]


class Expired(NamedTuple):
    """Delivery that was not accepted within its maximum age."""

    anomaly_id: UUID
    channel_id: UUID
    attempts: int
    error: str


class Backlog(NamedTuple):
    """Number of waiting deliveries of a channel, and the age of the oldest in seconds, or None."""

    waiting: int
    oldest_age_seconds: float | None


def claim(channel_id: UUID, limit: int = 1, *, fewest_attempts_first: bool = False) -> list[ClaimedDelivery]:
    """Claim at most `limit` deliveries of a channel that are due, and return them in the order of the queue.

    A delivery whose claim has expired is due as well.
    """
    order = FEWEST_ATTEMPTS_FIRST if fewest_attempts_first else IN_ORDER
    rows = database.execute_sql(CLAIM.format(order=order), (CLAIM_SECONDS, channel_id, limit)).fetchall()
    return [ClaimedDelivery(*row[:3]) for row in sorted(rows, key=lambda row: row[3:])]


def next_due_seconds(channel_id: UUID) -> float | None:
    """Return the seconds until a snoozed or claimed delivery of a channel is due; None if the queue is empty."""
    ((seconds,),) = database.execute_sql(NEXT_DUE, (channel_id,)).fetchall()
    return None if seconds is None else float(seconds)


def is_behind(channel_id: UUID, seconds: float, more_than: int) -> bool:
    """Return whether `more_than` deliveries that are not critical have been waiting for longer than `seconds`."""
    ((waiting,),) = database.execute_sql(WAITING_LONG, (channel_id, seconds, more_than + 1)).fetchall()
    return bool(waiting > more_than)


def has_critical(channel_id: UUID) -> bool:
    """Return whether a critical delivery of a channel is due."""
    ((found,),) = database.execute_sql(HAS_CRITICAL, (channel_id,)).fetchall()
    return bool(found)


def claim_digest(channel_id: UUID) -> ClaimedDigest | None:
    """Claim all waiting deliveries of a channel that are not critical, at most `MAX_DIGEST`.

    Return None if there are none, or if another worker is claiming a digest of this channel.
    """
    # Two workers would otherwise share the deliveries between two digests.
    ((is_only,),) = database.execute_sql(LOCK_DIGEST, (str(channel_id),)).fetchall()
    if not is_only:
        return None
    digest_id = uuid7()
    if not database.execute_sql(CLAIM_DIGEST, (digest_id, CLAIM_SECONDS, channel_id, MAX_DIGEST)).rowcount:
        return None
    groups = database.execute_sql(SUMMARY, (channel_id, digest_id)).fetchall()
    return ClaimedDigest(digest_id, channel_id, [Group(*row) for row in groups])


def release(delivery: ClaimedDelivery, snooze_seconds: float, reason: str) -> None:
    """Set a claimed delivery to `pending`, due in `snooze_seconds`, and record the reason of the temporary failure.

    No effect if the delivery is settled.
    """
    Delivery.reschedule(delivery.anomaly_id, delivery.channel_id, snooze_seconds, reason)


def release_digest(digest: ClaimedDigest, reason: str) -> None:
    """Set the deliveries of a digest to `pending` after a temporary failure."""
    _of(digest, status="pending", due_at=Delivery.present(), digest_id=None, last_error=reason)


def record_digest_delivered(digest: ClaimedDigest, receipt: str, reference: str | None) -> None:
    """Record that the channel accepted the digest; the receipt of each delivery contains the id of the digest."""
    settled = {"status": "delivered", "receipt": f"in digest {digest.digest_id}: {receipt}", "reference": reference}
    _of(digest, **settled, delivered_at=Delivery.present(), last_error=None)


def record_digest_rejected(digest: ClaimedDigest, reason: str) -> None:
    """Record that the channel rejected the digest permanently."""
    _of(digest, status="rejected", last_error=reason)


def note_error(channel_id: UUID, reason: str) -> None:
    """Record the reason for which this worker cannot send the unsettled deliveries of a channel."""
    database.execute_sql(NOTE_ERROR, (reason, channel_id, reason))


def reject_all(channel_id: UUID, reason: str) -> int:
    """Reject all waiting deliveries of a channel that cannot receive any; return their number."""
    rows: int = database.execute_sql(SETTLE_ALL, (reason, channel_id)).rowcount
    return rows


def overdue_channels() -> list[UUID]:
    """Return the channels with deliveries or notices that have been due for `OVERDUE_SECONDS`."""
    rows = database.execute_sql(OVERDUE_CHANNELS, {"seconds": OVERDUE_SECONDS}).fetchall()
    return [channel_id for (channel_id,) in rows]


def expire(max_age_seconds: float, limit: int) -> list[Expired]:
    """Set at most `limit` waiting deliveries that are older than `max_age_seconds` to `dead`, and return them."""
    return [Expired(*row) for row in database.execute_sql(EXPIRE, (max_age_seconds, limit)).fetchall()]


def revive(anomaly_id: UUID, channel_id: UUID) -> None:
    """Set a dead delivery to `pending`; its age begins again. No effect on other deliveries."""
    database.execute_sql(REVIVE, (anomaly_id, channel_id))


def backlog(channel_id: UUID) -> Backlog:
    """Return the number and the age of the waiting deliveries of a channel."""
    ((waiting, age),) = database.execute_sql(BACKLOG, (channel_id,)).fetchall()
    return Backlog(waiting, age)


def _of(digest: ClaimedDigest, **columns: Any) -> None:
    rows = (Delivery.channel_id == digest.channel_id, Delivery.digest_id == digest.digest_id)
    Delivery.update(**columns).where(*rows, Delivery.status == "sending").execute()

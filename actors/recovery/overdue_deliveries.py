"""Repair of channel queues: lost wake-ups, deliveries that are too old, and outages that are not announced."""

import time
from typing import Any

import structlog
from dramatiq.message import Message

from actors.channels.wake import wake
from models import delivery_queue
from models.channel_notice import ChannelNotice
from models.channel_state import ChannelState
from models.database import connection, database
from models.dead_letter import DeadLetter
from models.delivery_queue import Expired

log = structlog.get_logger()

#: Duration of an outage of a channel after which the outage is announced on the other channels.
ANNOUNCE_AFTER_SECONDS = 60.0
#: Maximum number of deliveries that expire in one transaction.
BATCH = 500


def wake_overdue() -> int:
    """Wake the channels with overdue deliveries; return their number.

    A wake-up is lost if a worker crashes after it has recorded an anomaly, or while it waits for a channel. Raises
    `redis.RedisError` or `peewee.PeeweeException` if a server is unavailable.
    """
    with connection():
        ChannelNotice.drop_old()
        overdue = delivery_queue.overdue_channels()
    wake(overdue)
    return len(overdue)


def expire(max_age_hours: int) -> int:
    """Dead-letter the deliveries that no attempt has delivered within `max_age_hours`; return their number.

    Raises `peewee.PeeweeException` if PostgreSQL is unavailable.
    """
    total = 0
    while True:
        with connection(), database.atomic():
            expired = delivery_queue.expire(max_age_hours * 3600, BATCH)
            if expired:
                DeadLetter.add(_letter(delivery) for delivery in expired)
        total += len(expired)
        if len(expired) < BATCH:
            break
    if total:
        log.error("deliveries_expired", deliveries=total, older_than_hours=max_age_hours)
    return total


def announce_failing_channels(after_seconds: float = ANNOUNCE_AFTER_SECONDS) -> int:
    """Announce each channel that has been failing for `after_seconds` on the other channels, once for each outage.

    Return the number of channels. Raises `peewee.PeeweeException` or `redis.RedisError` if a server is unavailable.
    """
    with connection(), database.atomic():
        outages = ChannelState.take_unannounced(after_seconds)
        targets = [channel_id for outage in outages for channel_id in ChannelNotice.add(outage, is_failing=True)]
    for outage in outages:
        log.error("channel_failing", channel=outage.name, reason=outage.reason)
    wake(targets)
    return len(outages)


def _letter(delivery: Expired) -> dict[str, Any]:
    """Return the dead letter of an expired delivery: a `notify` message, whose replay requeues the delivery."""
    letter_id = f"delivery-{delivery.anomaly_id}-{delivery.channel_id}"
    message: Message[Any] = Message(
        queue_name="notify",
        actor_name="notify",
        args=(str(delivery.anomaly_id), str(delivery.channel_id)),
        kwargs={},
        options={},
        message_id=letter_id,
        message_timestamp=time.time_ns() // 1_000_000,
    )
    return {
        "dead_letter_id": letter_id,
        "queue_name": "notify",
        "actor_name": "notify",
        "attempts": delivery.attempts,
        "error": delivery.error,
        "message": message.encode(),
    }

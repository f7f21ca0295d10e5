"""Requeueing of deliveries whose `notify` message was lost, for example by a crash after the anomaly was recorded."""

from actors.pipeline.notify import notify
from actors.recovery.lost_work import is_behind
from models.database import connection
from models.delivery import OVERDUE_SECONDS, Delivery


def requeue() -> int:
    """Queue a `notify` message for each overdue delivery; return the number of messages.

    Do nothing and return 0 while the queue is behind. An unnecessary message does no harm, because a settled delivery
    cannot be claimed. Raises `redis.RedisError` or `peewee.PeeweeException` if a server is unavailable.
    """
    if is_behind(notify.queue_name, OVERDUE_SECONDS):
        return 0
    with connection():
        overdue = Delivery.take_overdue()
    for anomaly_id, channel_id in overdue:
        notify.send(str(anomaly_id), str(channel_id))
    return len(overdue)

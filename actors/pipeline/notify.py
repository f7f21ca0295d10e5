"""Stage that makes the dispatcher of this process send what is due in the queues of channels."""

from uuid import UUID

import dramatiq

from actors import runtime
from actors.channels.wake import ACTOR, QUEUE
from actors.outages import retry_on_outage
from models import delivery_queue
from models.database import connection


@dramatiq.actor(queue_name=QUEUE, actor_name=ACTOR, max_retries=3)
def wake_channels(*channel_ids: str, ends_pause: bool = False) -> None:
    """Wake the queues of these channels in the dispatcher; the sends continue after the return."""
    runtime.current().dispatcher.wake(map(UUID, channel_ids), ends_pause=ends_pause)


@dramatiq.actor(queue_name="notify", max_retries=3)
@retry_on_outage
def notify(anomaly_id: str, channel_id: str) -> None:
    """Wake the queue of a channel, and requeue the delivery if it is dead.

    Earlier versions send such a message for each delivery. The dead letter of an expired delivery contains one as well.
    """
    with connection():
        delivery_queue.revive(UUID(anomaly_id), UUID(channel_id))
    runtime.current().dispatcher.wake([UUID(channel_id)])

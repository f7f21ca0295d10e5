"""Wake-ups: messages that make a worker send what is due in the queues of channels.

A wake-up carries no delivery, so an unnecessary one does no harm, and a lost one is replaced by the scheduler.
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import redis
import structlog
from dramatiq.message import Message

from actors.broker import broker

log = structlog.get_logger()

#: Queue and actor of the wake-ups. Workers of versions before the wake-ups do not read this queue.
QUEUE, ACTOR = "channels", "wake_channels"


def wake(channel_ids: Iterable[UUID], *, ends_pause: bool = False) -> None:
    """Queue one wake-up for all of these channels; inside an actor, add it to the outbox. Raises `redis.RedisError`.

    `ends_pause`: whether the channels were changed, so that workers must read their state again during a pause.
    """
    if ids := sorted({str(channel_id) for channel_id in channel_ids}):
        kwargs = {"ends_pause": True} if ends_pause else {}
        message: Message[Any] = Message(queue_name=QUEUE, actor_name=ACTOR, args=tuple(ids), kwargs=kwargs, options={})
        broker.enqueue(message)


def try_wake(channel_ids: Iterable[UUID], *, ends_pause: bool = False) -> None:
    """Queue a wake-up like `wake`; only log a warning if Redis is unavailable, because the scheduler queues another."""
    try:
        wake(channel_ids, ends_pause=ends_pause)
    except redis.RedisError as error:
        log.warning("channels_not_woken", error=str(error))

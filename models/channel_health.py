"""Health of a channel, for operators: its state, and its waiting deliveries."""

from datetime import datetime
from typing import NamedTuple

from models import delivery_queue
from models.channel import Channel
from models.channel_state import ChannelState

#: Age of the oldest waiting delivery from which on a channel counts as slow.
SLOW_SECONDS = 60.0


class ChannelHealth(NamedTuple):
    """Health of a channel.

    `status`: `disabled`; `failing` after a failure or rejection, until the next success; `throttled` while the channel
    accepts notifications only at a slower pace; otherwise `healthy`.
    `failing_since`, `last_error`, `paused_until`: as in `ChannelState`.
    `waiting`: number of deliveries that are not settled; `oldest_waiting_seconds`: age of the oldest, or None.
    """

    status: str
    failing_since: datetime | None
    last_error: str | None
    paused_until: datetime | None
    waiting: int
    oldest_waiting_seconds: float | None

    @property
    def is_slow(self) -> bool:
        """Whether a delivery has been waiting for longer than `SLOW_SECONDS`."""
        return (self.oldest_waiting_seconds or 0.0) > SLOW_SECONDS


def health(channel: Channel) -> ChannelHealth:
    """Return the health of a channel."""
    state = ChannelState.of(channel) or ChannelState()
    waiting, oldest_seconds = delivery_queue.backlog(channel.channel_id)
    status = "healthy" if channel.enabled else "disabled"
    if channel.enabled and (state.failing_since or state.interval_seconds):
        status = "failing" if state.failing_since else "throttled"
    return ChannelHealth(
        status,
        state.failing_since,
        state.last_error,
        state.paused_until,
        waiting,
        None if oldest_seconds is None else round(oldest_seconds, 1),
    )

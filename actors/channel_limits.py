"""What this process knows of the channels it sends to: how many sends are under way, and whom to leave alone."""

import threading
import time
from dataclasses import dataclass
from random import uniform

#: Sends to one channel at once; the others are for other channels. One that failed gets a single one, as a probe.
MAX_CONCURRENT_SENDS = 2
MAX_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class _Channel:
    sending: int = 0
    failures: int = 0
    paused_until: float = 0.0


class ChannelLimiter:
    """Keeps a channel that hangs or fails from taking the threads that other channels need."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._lock = threading.Lock()

    def acquire(self, channel_id: str) -> float:
        """Begin a send: 0. Or not now: the number of seconds to wait, so that not all come back at once."""
        with self._lock:
            channel = self._channels.setdefault(channel_id, _Channel())
            pause = channel.paused_until - time.monotonic()
            if pause > 0:
                return pause + uniform(0, min(pause, 1.0))  # noqa: S311 - spreads load, keeps no secret
            if channel.sending >= (1 if channel.failures else MAX_CONCURRENT_SENDS):
                return uniform(0.05, 0.15)  # noqa: S311 - as above
            channel.sending += 1
            return 0.0

    def release(self, channel_id: str, *, failed: bool = False, after_seconds: float | None = None) -> float:
        """End a send; a failed one pauses the channel, for as long as it asked, else longer each time.

        Returns the pause in seconds.
        """
        with self._lock:
            channel = self._channels[channel_id]
            channel.sending -= 1
            channel.failures = channel.failures + 1 if failed else 0
            if not failed:
                return 0.0
            pause = min(2.0**channel.failures, MAX_PAUSE_SECONDS) if after_seconds is None else after_seconds
            channel.paused_until = max(channel.paused_until, time.monotonic() + pause)
            return pause

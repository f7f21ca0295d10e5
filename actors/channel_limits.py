"""Channel limiter: limit of concurrent sends to each channel, and a circuit breaker after failures."""

import threading
import time
from dataclasses import dataclass
from random import uniform

from eventpulse.backoff import backoff_seconds

#: Maximum number of concurrent sends to one channel in one process. After a failure, the maximum is 1.
MAX_CONCURRENT_SENDS = 2
FIRST_PAUSE_SECONDS = 2.0
MAX_PAUSE_SECONDS = 60.0


@dataclass(slots=True)
class _Channel:
    sending: int = 0
    failures: int = 0
    paused_until: float = 0.0


class ChannelLimiter:
    """Concurrency limits and pauses of the channels, so that a slow channel does not block the other channels."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._lock = threading.Lock()

    def acquire(self, channel_id: str) -> float:
        """Reserve a send and return 0, or return the seconds to wait before the next call.

        The wait has a random part, so that waiting messages are not all retried at the same time.
        """
        with self._lock:
            channel = self._channels.setdefault(channel_id, _Channel())
            pause = channel.paused_until - time.monotonic()
            if pause > 0:
                return pause + uniform(0, min(pause, 1.0))  # noqa: S311 - spreads load, protects no secret
            if channel.sending >= (1 if channel.failures else MAX_CONCURRENT_SENDS):
                return uniform(0.05, 0.15)  # noqa: S311 - spreads load, protects no secret
            channel.sending += 1
            return 0.0

    def release(self, channel_id: str) -> None:
        """End a reserved send, whatever its outcome."""
        with self._lock:
            self._channels[channel_id].sending -= 1

    def record_success(self, channel_id: str) -> None:
        """Reset the failure count of a channel after a success or a permanent failure."""
        with self._lock:
            self._channels[channel_id].failures = 0

    def record_failure(self, channel_id: str, after_seconds: float | None = None) -> float:
        """Pause a channel after a failure.

        Return the pause in seconds: `after_seconds` or, if it is None, an exponential backoff with jitter.
        """
        with self._lock:
            channel = self._channels[channel_id]
            channel.failures += 1
            pause = backoff_seconds(channel.failures, FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
            if after_seconds is not None:
                pause = after_seconds
            channel.paused_until = max(channel.paused_until, time.monotonic() + pause)
            return pause

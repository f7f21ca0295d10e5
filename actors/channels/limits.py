"""Limits of each channel: concurrent sends, pauses after failures (circuit breaker), and digests."""

from dataclasses import dataclass

from eventpulse.backoff import backoff_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelLimits:
    """Limits that apply to every channel.

    concurrent_sends: maximum number of concurrent sends to a channel in one process. While a channel fails or
        throttles, all workers together send one notification at a time.
    local_batch: maximum number of notifications that are claimed and recorded together for a channel of a local kind.
    first_pause_seconds, max_pause_seconds: pauses after failures increase from the first to the longest.
    min_throttle_seconds: minimum pause after the status 429.
    max_retry_after_seconds: longest pause that a channel can request.
    failures_per_detour: after this number of consecutive failures, and each multiple, the probe sends another
        notification, because the first one may be the cause of the failures.
    digest_seconds, digest_deliveries: the channel cannot keep up if it accepts notifications and more than
        `digest_deliveries` that are not critical have been waiting for longer than `digest_seconds`.
    """

    concurrent_sends: int = 2
    local_batch: int = 20
    first_pause_seconds: float = 2.0
    max_pause_seconds: float = 60.0
    min_throttle_seconds: float = 1.0
    max_retry_after_seconds: float = 900.0
    failures_per_detour: int = 8
    digest_seconds: float = 30.0
    digest_deliveries: int = 20

    def failure_pause(self, failures: int, after_seconds: float | None) -> float:
        """Return the pause after `failures` consecutive failures; `after_seconds` is the requested pause or None."""
        if after_seconds is None:
            return backoff_seconds(failures, self.first_pause_seconds, self.max_pause_seconds)
        return min(max(after_seconds, self.first_pause_seconds), self.max_retry_after_seconds)

    def throttle_pause(self, after_seconds: float | None) -> float:
        """Return the pause of a channel that throttles; `after_seconds` is the requested pause or None."""
        return min(max(after_seconds or 0.0, self.min_throttle_seconds), self.max_retry_after_seconds)

    def snooze(self, attempts: int, failures: int) -> float:
        """Return the time for which a delivery is snoozed after a failed attempt, in addition to the channel's pause.

        `failures` is the number of failures of the channel before this attempt. If the channel has accepted other
        notifications since the last attempt of this delivery, the cause may be the delivery. It is then snoozed, so
        that it does not pause the channel again and again.
        """
        if failures > 0 or attempts < 2:
            return 0.0
        return backoff_seconds(attempts, self.first_pause_seconds, self.max_pause_seconds)

    def is_detour(self, failures: int) -> bool:
        """Return whether the next probe of a failing channel sends another notification than the first in the queue."""
        return failures > 0 and failures % self.failures_per_detour == 0


DEFAULT_LIMITS = ChannelLimits()

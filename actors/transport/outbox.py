"""Messages that an actor enqueues while it processes a batch, sent together with the acknowledgement.

Messages of the next stage, notifications and retries reach Redis in the atomic script that acknowledges the batch
(`scripts/finish.lua`). If Redis is unavailable at that moment, the batch stays leased and nothing is lost.
"""

from collections import Counter
from typing import NamedTuple


class FollowUp(NamedTuple):
    """Entry to enqueue with the acknowledgement; it is due `delay_ms` later."""

    queue_name: str
    entry_id: str
    data: bytes
    delay_ms: int


class Mark(NamedTuple):
    """State of an outbox that `rollback` can restore."""

    follow_ups: int
    counts: Counter[str]


class Outbox:
    """Entries to enqueue and counters to increase with one acknowledgement."""

    def __init__(self) -> None:
        self.follow_ups: list[FollowUp] = []
        self.counts: Counter[str] = Counter()

    def add(self, queue_name: str, entry_id: str, data: bytes, delay_ms: int = 0) -> None:
        self.follow_ups.append(FollowUp(queue_name, entry_id, data, delay_ms))

    def mark(self) -> Mark:
        """Return the current state, for `rollback`."""
        return Mark(len(self.follow_ups), self.counts.copy())

    def rollback(self, mark: Mark) -> None:
        """Remove the entries and counts that were added after `mark`."""
        del self.follow_ups[mark.follow_ups :]
        self.counts = mark.counts.copy()

    def clear(self) -> None:
        self.follow_ups.clear()
        self.counts.clear()

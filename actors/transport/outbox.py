"""What a message gives rise to leaves with its acknowledgement, or not at all.

Whatever is sent while a message is processed (the next stage, a notification, its own retry) waits here
and reaches Redis in the same atomic script that acknowledges it. So nothing is lost when Redis is away at
that moment: the message stays leased, and is settled or processed again later.
"""

from collections import Counter, defaultdict
from typing import Any


class Outbox:
    """Messages and counts that wait for one acknowledgement."""

    def __init__(self) -> None:
        self.follow_ups: defaultdict[str, list[bytes | str | int]] = defaultdict(list)
        self.counts: Counter[str] = Counter()

    def add(self, queue_name: str, message_id: str, message: bytes, delay_ms: int = 0) -> None:
        self.follow_ups[queue_name] += (message_id, message, delay_ms)

    def clear(self) -> None:
        self.follow_ups.clear()
        self.counts.clear()

    def as_arguments(self) -> list[Any]:
        """The end of the arguments of `finish.lua`."""
        arguments: list[Any] = [len(self.counts)]
        for name, amount in self.counts.items():
            arguments += (name, amount)
        for queue_name, follow_ups in self.follow_ups.items():
            arguments += (queue_name, len(follow_ups) // 3, *follow_ups)
        return arguments

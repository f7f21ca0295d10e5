"""The protocol of windows: queries, results, and cooldowns.

A window holds the events of one rule, condition and group as members `(time, id, value)`. Adding a member again
changes nothing. Times and durations are integer microseconds.

A new query needs a struct here and in `QUERIES`, a model in `rules.windows.memory.MODELS` and a Lua script in
`actors.rule_state.windows.redis_windows.OBSERVE`; a property test compares the two.
"""

from collections.abc import Sequence
from typing import Protocol, Self

import msgspec

from rules.event import SECOND

#: How far in the future the timestamp of an event may be.
CLOCK_SKEW_SECONDS = 60

#: Time, event id, and the value that the condition gives to the event.
Member = tuple[int, str, float]


class NthWithin(msgspec.Struct, array_like=True, frozen=True):
    """Query for the events that the new members have made the last of `needed` within `width`. Ignores values.

    They are new members, or later members whose window had too few members before. If a new member was stored
    already, this is a redelivery: the first worker may have crashed before it recorded its results. Then the results
    are all members that the new ones may ever have completed.

    A window keeps at least the newest `keep` members that are less than `past` older than the newest event.
    """

    needed: int
    width: int
    keep: int
    past: int

    @classmethod
    def of(cls, needed: int, window_seconds: int, allowed_lateness_seconds: int) -> Self:
        past = (window_seconds + allowed_lateness_seconds) * SECOND
        return cls(needed, window_seconds * SECOND, members_kept(needed), past)


class CountWithin(msgspec.Struct, array_like=True, frozen=True):
    """Query for the number of members in the `width` that ends with each new one, itself included. Ignores values.

    Exact up to `keep`. A window keeps the same members as for `NthWithin`.
    """

    width: int
    keep: int
    past: int

    @classmethod
    def of(cls, limit: int, window_seconds: int, allowed_lateness_seconds: int) -> Self:
        """Return a query that is exact up to `limit`, even for late events."""
        past = (window_seconds + allowed_lateness_seconds) * SECOND
        return cls(window_seconds * SECOND, members_kept(limit), past)


class BucketBaseline(msgspec.Struct, array_like=True, frozen=True):
    """Query for the counts of the bucket of each new member and of the `baseline` buckets before it. Ignores values.

    A bucket is `size` long. There is no result until the window is `baseline` buckets old. The window keeps the newest
    `keep` buckets and drops the others when twice as many exist.
    """

    size: int
    baseline: int
    keep: int

    @classmethod
    def of(cls, bucket_seconds: int, baseline: int, allowed_lateness_seconds: int) -> Self:
        late = -(-allowed_lateness_seconds // bucket_seconds)
        skew = -(-CLOCK_SKEW_SECONDS // bucket_seconds)
        return cls(bucket_seconds * SECOND, baseline, baseline + late + skew + 1)


WindowQuery = NthWithin | CountWithin | BucketBaseline
QUERIES: tuple[type[WindowQuery], ...] = (NthWithin, CountWithin, BucketBaseline)


def members_kept(needed: int) -> int:
    """Return how many members a window keeps so that a late event finds its neighbours."""
    return max(4 * needed, needed + 256)


class WindowUpdate(msgspec.Struct):
    """New members of one window, in order of (time, id).

    `newest` is the latest event time of the batch, limited to the time of arrival.
    """

    key: str
    query: WindowQuery
    newest: int
    members: list[Member]


class WindowResult(msgspec.Struct, array_like=True, frozen=True):
    """The result for one event; `position` is the index of its update.

    `count` is the number of members in its window or bucket. `total` and `squares` are the sums of the counts and of
    the squared counts of its baseline.
    """

    position: int
    event_id: str
    at: int
    count: int
    total: int = 0
    squares: int = 0


class CooldownClaim(msgspec.Struct, frozen=True):
    """A request by each event, in order of (time, id), to start the cooldown of its group at its time.

    Starts that are `past` or more older than the newest are dropped, and all but the newest `keep`.
    """

    key: str
    cooldown: int
    past: int
    keep: int
    members: list[tuple[int, str]]


class Window(Protocol):
    """Members of windows and starts of cooldowns, shared by all workers. A call is atomic for each window."""

    def observe(self, updates: Sequence[WindowUpdate]) -> list[WindowResult]:
        """Add the members of all updates to their windows and return the results of their queries."""
        ...

    def check_cooldowns(self, claims: Sequence[CooldownClaim]) -> list[list[bool]]:
        """Return for each event of each claim whether it wins the cooldown: no other winner is less than it away.

        Stores nothing, so that a worker that crashes before it records its anomaly suppresses no other anomaly.
        """
        ...

    def start_cooldowns(self, claims: Sequence[CooldownClaim]) -> None:
        """Store the start of a cooldown for each event, after its anomaly was recorded."""
        ...

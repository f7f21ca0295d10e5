"""Interface of windows: queries, results, and cooldowns.

A window contains the events of one group as members `(time, id, value)`. Adding a member again has no effect. Rules
with the same scope, the same allowed lateness and the same type of query share a window if the type has a name
`shared_as`, which is a part of the window's key. Times and durations are integer microseconds.

A new query needs a struct in this file and in `QUERIES`, a model in `rules.windows.memory.MODELS` and a Lua script in
`actors.rule_state.windows.redis_windows.OBSERVE`; a property test compares the model with the script.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, Self, TypeVar

import msgspec

from rules.event import SECOND

#: Maximum time by which the timestamp of an event in a window may be later than the arrival of the event.
CLOCK_SKEW_SECONDS = 60

#: Number of members up to which a bucket stores their ids: about 0.4 MB. Independent events that occur at a constant
#: rate have a standard deviation of 1.6 % of this count, more than the error of an estimate.
EXACT_COUNT = 4_000
#: Standard error of the estimated count of a bucket, as a part of the count: 1.04 / sqrt(2 ** 14 registers).
COUNT_ERROR = 0.0081

#: Time, event id, and the value that the condition gives to the event.
Member = tuple[int, str, float]


class NthWithin(msgspec.Struct, array_like=True, frozen=True):
    """Query for the events that end a run because of the new members.

    A run consists of `needed` consecutive members within `width`. The query has several `spans`, each a pair (needed,
    width), because rules share a window; each span has its own results.

    The events are new members, or later members that ended no run before. If a new member is already stored, it was
    redelivered, and the first worker may have crashed before it recorded the results. Then the query also returns the
    events that may have ended a run because of the first delivery. The query ignores values.

    A window keeps at least the newest `keep` members that are less than `past` older than the newest event.
    """

    shared_as: ClassVar[str | None] = "runs"
    spans: tuple[tuple[int, int], ...]
    keep: int
    past: int

    @classmethod
    def of(cls, needed: int, window_seconds: int, allowed_lateness_seconds: int) -> Self:
        past = (window_seconds + allowed_lateness_seconds) * SECOND
        return cls(((needed, window_seconds * SECOND),), members_kept(needed), past)


class CountWithin(msgspec.Struct, array_like=True, frozen=True):
    """Query for the number of members within a width up to and including each new member. The query ignores values.

    `spans` has one or more widths. The numbers are exact up to `keep`. A window keeps the same members as for
    `NthWithin`.
    """

    shared_as: ClassVar[str | None] = "counts"
    spans: tuple[int, ...]
    keep: int
    past: int

    @classmethod
    def of(cls, limit: int, window_seconds: int, allowed_lateness_seconds: int) -> Self:
        """Return a query whose numbers are exact up to `limit`, even for late events."""
        past = (window_seconds + allowed_lateness_seconds) * SECOND
        return cls((window_seconds * SECOND,), members_kept(limit), past)


class BucketBaseline(msgspec.Struct, array_like=True, frozen=True):
    """Query for the number of members in the bucket of each new member and in the `baseline` earlier buckets.

    The query ignores values. `size` is the duration of a bucket. There is no result for the first `baseline` buckets of
    a window. When a window has more than twice `keep` buckets, the buckets older than the newest `keep` are deleted.

    Counts up to `exact` are exact. Above it, the ids of the members of a bucket are not stored, and its count is an
    estimate (HyperLogLog, Flajolet et al. 2007) with the standard error `COUNT_ERROR`.
    """

    shared_as: ClassVar[str | None] = None
    size: int
    baseline: int
    keep: int
    exact: int = EXACT_COUNT

    @property
    def span(self) -> int:
        """Return the shortest time for which a window must keep its counts."""
        return (self.baseline + 1) * self.size

    @classmethod
    def of(cls, bucket_seconds: int, baseline: int, allowed_lateness_seconds: int) -> Self:
        late = -(-allowed_lateness_seconds // bucket_seconds)
        skew = -(-CLOCK_SKEW_SECONDS // bucket_seconds)
        return cls(bucket_seconds * SECOND, baseline, baseline + late + skew + 1)


WindowQuery = NthWithin | CountWithin | BucketBaseline
QUERIES: tuple[type[WindowQuery], ...] = (NthWithin, CountWithin, BucketBaseline)
#: Types of queries whose windows rules share.
SharedQuery = TypeVar("SharedQuery", NthWithin, CountWithin)


def merge(queries: Sequence[SharedQuery]) -> SharedQuery:
    """Return a query with the spans of all queries, for a window that keeps the members that any of them needs.

    The spans are in ascending order, without repetitions.
    """
    spans: Any = tuple(sorted({span for query in queries for span in query.spans}))
    return type(queries[0])(spans, max(query.keep for query in queries), max(query.past for query in queries))


def members_kept(needed: int) -> int:
    """Return the number of members that a window keeps, so that the members around a late event still exist."""
    return max(4 * needed, needed + 256)


class WindowUpdate(msgspec.Struct):
    """New members of one window, in order of (time, id).

    `newest` is the latest time of these members; a time after the arrival of its event counts as the time of arrival.
    """

    key: str
    query: WindowQuery
    newest: int
    members: list[Member]


class WindowResult(msgspec.Struct, array_like=True):
    """Result of one span of a query for one or more events.

    `position` is the index of the update, `span` the index of the span in `query.spans` (0 for `BucketBaseline`).
    `events` are the (time, id) of the events with this result, sorted.
    `count`: for `NthWithin`, always `needed`, a lower bound of the number of members in the window of an event; for
    `CountWithin`, that number; for `BucketBaseline`, the number of members in the bucket after the event was added.
    `total`, `squares`: sums of the counts and of the squared counts of the buckets in the baseline of `BucketBaseline`.
    """

    position: int
    span: int
    count: int
    events: list[tuple[int, str]]
    total: int = 0
    squares: int = 0


class CooldownClaim(msgspec.Struct, frozen=True):
    """Request to start a cooldown at the time of each event of one group; `members` are in order of (time, id).

    Starting the cooldowns also deletes stored starts that are at least `past` older than the last event, and keeps only
    the newest `keep` starts.
    """

    key: str
    cooldown: int
    past: int
    keep: int
    members: list[tuple[int, str]]


class Window(Protocol):
    """Store of the members of windows and the starts of cooldowns. A call is atomic for each window."""

    def observe(self, updates: Sequence[WindowUpdate]) -> list[WindowResult]:
        """Add the members of all updates to their windows and return the results of their queries."""
        ...

    def check_cooldowns(self, claims: Sequence[CooldownClaim]) -> list[list[int]]:
        """Return for each claim the indexes of the events that may start a cooldown, in ascending order.

        An event may start a cooldown if its own start is already stored, or if no other start, stored or of an earlier
        event of the claim, is less than one cooldown away. The call stores nothing: if the worker crashes before it
        records the anomaly, no other anomaly is suppressed.
        """
        ...

    def start_cooldowns(self, claims: Sequence[CooldownClaim]) -> None:
        """Store the start of a cooldown for each event of the claims. Call only after the anomalies were recorded."""
        ...

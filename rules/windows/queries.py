"""What the rules ask of past events: the questions, the answers, and who can answer.

A window holds event ids by event time, for one rule, condition and group. Adding an event again changes
nothing. Times and spans are whole microseconds. All that travels to a shared window is an array, in the
order of its fields here.
"""

from collections.abc import Sequence
from typing import Protocol, Self

import msgspec

from rules.event import SECOND

#: How far ahead of ours an event's clock may be.
CLOCK_SKEW_SECONDS = 60


class _Sliding(msgspec.Struct, array_like=True, frozen=True):
    """Of the last `width`, `needed` members decide.

    Kept are at least the newest `keep`, enough for late arrivals to find their neighbours, and of those
    what is less than `past` older than the newest event; not much more than that.
    """

    needed: int
    width: int
    keep: int
    past: int

    @classmethod
    def of(cls, needed: int, window_seconds: int, allowed_lateness_seconds: int) -> Self:
        keep = max(4 * needed, needed + 256)
        return cls(needed, window_seconds * SECOND, keep, (window_seconds + allowed_lateness_seconds) * SECOND)


class Run(_Sliding, frozen=True):
    """Which events are the last of `needed` within the `width`, now that these have been added?

    Named are the new events that are, and the later ones that have become so because of them. When one of the new
    events is known already, all that may ever have become so because of it are named again: who was told
    before may have died since.
    """


class Count(_Sliding, frozen=True):
    """How many events, itself included, are there in the `width` before each new one? Exact up to `needed`."""


class Buckets(msgspec.Struct, array_like=True, frozen=True):
    """How many events has the bucket of each new one, and how many had the `baseline` buckets before it?

    A bucket is `size` long. Not answered before the first bucket of all is `baseline` buckets away. Counts of
    the newest `keep` buckets are kept; the others are dropped when they have become as many.
    """

    size: int
    baseline: int
    keep: int

    @classmethod
    def of(cls, bucket_seconds: int, baseline: int, allowed_lateness_seconds: int) -> Self:
        late = -(-allowed_lateness_seconds // bucket_seconds)
        skew = -(-CLOCK_SKEW_SECONDS // bucket_seconds)
        keep = baseline + late + skew + 1
        return cls(bucket_seconds * SECOND, baseline, keep)


Question = Run | Count | Buckets


class WindowUpdate(msgspec.Struct, array_like=True):
    """New events of one window, in order of (time, id). `newest`: the latest event time, but not in the future."""

    key: str
    question: Question
    newest: int
    members: list[tuple[int, str]]


class WindowResult(msgspec.Struct, array_like=True, frozen=True):
    """What the window says about one event of the watch at this position.

    `count`: the events in its window or bucket. `total` and `squares`: the sums of its baseline's counts and of
    their squares.
    """

    watch: int
    event_id: str
    at: int
    count: int
    total: int = 0
    squares: int = 0


class CooldownClaim(msgspec.Struct, array_like=True, frozen=True):
    """The wish of each of these events, in order of (time, id), to speak for its group for `cooldown` around its time.

    What was claimed `past` or more before the newest is forgotten, and all but the newest `keep`.
    """

    key: str
    cooldown: int
    past: int
    keep: int
    members: list[tuple[int, str]]


class Window(Protocol):
    """Remembers events for all who share it. Each call is atomic for each of its windows."""

    def observe(self, watches: Sequence[WindowUpdate]) -> list[WindowResult]:
        """Add the events of all watches to their windows; returns what their questions found."""
        ...

    def free(self, claims: Sequence[CooldownClaim]) -> list[list[bool]]:
        """For each event of each claim, whether it may speak: no other that does lies less than the cooldown away.

        Nothing is remembered of this: a worker that dies before its anomaly is recorded silences nobody.
        """
        ...

    def claim(self, claims: Sequence[CooldownClaim]) -> None:
        """Remember that these events spoke, now that their anomalies are recorded."""
        ...

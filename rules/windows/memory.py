"""Windows in the memory of one process: the model with which tests compare the Lua scripts."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rules.windows.queries import (
    BucketBaseline,
    CooldownClaim,
    CountWithin,
    NthWithin,
    WindowQuery,
    WindowResult,
    WindowUpdate,
)


@dataclass(slots=True)
class _Members:
    """Members of a window. `order`: the (time, id) of each member, sorted. `times`: the time of each id."""

    order: list[tuple[int, str]] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)

    def add(self, members: Iterable[tuple[int, str]]) -> int:
        """Add the members whose ids are new; return the number of added members."""
        before = len(self.order)
        for at, member in members:
            if member not in self.times:
                self.times[member] = at
                insort(self.order, (at, member))
        return len(self.order) - before

    def rank(self, member: str) -> int:
        return bisect_left(self.order, (self.times[member], member))

    def before(self, at: int) -> int:
        """Return the number of members older than `at`."""
        return bisect_left(self.order, (at,))

    def trim(self, horizon: int, keep: int) -> None:
        """Delete the members at or before `horizon`; of the other members, keep only the newest `keep`."""
        old = max(self.before(horizon + 1), len(self.order) - keep)
        for _, member in self.order[:old]:
            del self.times[member]
        del self.order[:old]


@dataclass(slots=True)
class _Buckets:
    """Ids of the members in each bucket, and the earliest bucket that has had a member."""

    first: int | None = None
    ids: dict[int, set[str]] = field(default_factory=dict)


@dataclass(slots=True)
class _State:
    """State of one window: `members` or `buckets`, depending on the type of its query."""

    members: _Members = field(default_factory=_Members)
    buckets: _Buckets = field(default_factory=_Buckets)


class MemoryWindow:
    """Implementation of `Window` in memory, for one process."""

    def __init__(self) -> None:
        self._windows: defaultdict[str, _State] = defaultdict(_State)
        self._cooldowns: defaultdict[str, _Members] = defaultdict(_Members)

    def observe(self, updates: Sequence[WindowUpdate]) -> list[WindowResult]:
        results: list[WindowResult] = []
        for position, update in enumerate(updates):
            model = MODELS[type(update.query)]
            results += model(self._windows[update.key], position, update, update.query)
        return results

    def check_cooldowns(self, claims: Sequence[CooldownClaim]) -> list[list[int]]:
        return [list(_wins(self._cooldowns[claim.key], claim)) for claim in claims]

    def start_cooldowns(self, claims: Sequence[CooldownClaim]) -> None:
        for claim in claims:
            started = self._cooldowns[claim.key]
            started.add(claim.members)
            started.trim(claim.members[-1][0] - claim.past, claim.keep)


def _wins(started: _Members, claim: CooldownClaim) -> Iterator[int]:
    winner: int | None = None
    for index, (at, member) in enumerate(claim.members):
        free = started.before(at + claim.cooldown) == started.before(at - claim.cooldown + 1)
        free = free and (winner is None or at - winner >= claim.cooldown)
        winner = at if free else winner
        if free or member in started.times:
            yield index


def _nth_within(window: _State, position: int, update: WindowUpdate, query: NthWithin) -> Iterator[WindowResult]:
    added = window.members.add(_ids(update))
    redelivered = added < len(update.members)
    for span, (needed, width) in enumerate(query.spans):
        if events := list(_completed(window.members, update, needed, width, redelivered)):
            yield WindowResult(position, span, needed, events)
    window.members.trim(update.newest - query.past, query.keep)


def _completed(
    window: _Members, update: WindowUpdate, needed: int, width: int, redelivered: bool
) -> Iterator[tuple[int, str]]:
    """Yield each event that ends a run because of the new members; see `NthWithin`.

    An event ends a run if the member `needed - 1` ranks before it is less than `width` older. A new member can change
    this only for events less than `width` later and at most `needed - 1` ranks later. An event that ended a run
    without the new members has had its result already.

    Example: needed = 3, width = 10. The window has the times 1, 5 and 12, and 3 is added. The order is 1, 3, 5, 12.

    - 3 (rank 1): rank -1 does not exist, so there is no result.
    - 5 (rank 2): rank 0 has the time 1, which is greater than 5 - 10. Without the new member, the rank of 5 was 1, and
      rank -1 does not exist. Therefore there is a result.
    - 12 (rank 3): rank 1 has the time 3, which is greater than 12 - 10. Without the new member, the rank of 12 was 2,
      and rank 0 has the time 1, which is not greater than 12 - 10. Therefore there is a result.

    `new` is the number of new members up to the event, `expired` the number of these members that are older
    than the window of the event.
    """
    new_ids = {member for _, member, _ in update.members}
    order = window.order
    last = window.rank(update.members[-1][1]) + needed
    new = expired = 0
    for rank in range(window.rank(update.members[0][1]), len(order) if redelivered else min(last, len(order))):
        at, member = order[rank]
        if at >= update.members[-1][0] + width:
            break
        new += member in new_ids
        while expired < new and update.members[expired][0] <= at - width:
            expired += 1
        before = _is_within(order, rank - needed + 1 - (new - expired), at - width)
        if _is_within(order, rank - needed + 1, at - width) and (redelivered or member in new_ids or not before):
            yield at, member


def _is_within(order: Sequence[tuple[int, str]], rank: int, after: int) -> bool:
    """Return whether a member at `rank` exists and its time is greater than `after`."""
    return rank >= 0 and order[rank][0] > after


def _count_within(window: _State, position: int, update: WindowUpdate, query: CountWithin) -> Iterator[WindowResult]:
    members = window.members
    members.add(_ids(update))
    for span, width in enumerate(query.spans):
        for at, member in _ids(update):
            count = members.before(at + 1) - members.before(at - width + 1)
            yield WindowResult(position, span, count, [(at, member)])
    members.trim(update.newest - query.past, query.keep)


def _bucket_baseline(window: _State, position: int, update: WindowUpdate, query: BucketBaseline) -> list[WindowResult]:
    buckets, results = window.buckets, list[WindowResult]()
    by_bucket: dict[int, list[tuple[int, str]]] = {}
    for at, member in _ids(update):
        by_bucket.setdefault(at // query.size, []).append((at, member))
    for bucket, members in by_bucket.items():
        results += _bucket_results(buckets, position, bucket, members, query)
    if len(buckets.ids) > 2 * query.keep:
        oldest = update.newest // query.size - query.keep
        buckets.ids = {bucket: ids for bucket, ids in buckets.ids.items() if bucket >= oldest}
    return results


def _bucket_results(
    buckets: _Buckets, position: int, bucket: int, members: list[tuple[int, str]], query: BucketBaseline
) -> Iterator[WindowResult]:
    buckets.ids.setdefault(bucket, set()).update(member for _, member in members)
    buckets.first = bucket if buckets.first is None else min(bucket, buckets.first)
    if buckets.first > bucket - query.baseline:
        return
    counts = [len(buckets.ids.get(bucket - back, ())) for back in range(1, query.baseline + 1)]
    total, squares = sum(counts), sum(count * count for count in counts)
    before = len(buckets.ids[bucket]) - len(members)
    for place, (at, member) in enumerate(members, 1):
        yield WindowResult(position, 0, before + place, [(at, member)], total, squares)


def _ids(update: WindowUpdate) -> Iterator[tuple[int, str]]:
    return ((at, member) for at, member, _ in update.members)


#: Model of each type of query: a function that adds the members of an update to a window and returns the results.
MODELS: dict[type[WindowQuery], Callable[[_State, int, WindowUpdate, Any], Iterable[WindowResult]]] = {
    NthWithin: _nth_within,
    CountWithin: _count_within,
    BucketBaseline: _bucket_baseline,
}

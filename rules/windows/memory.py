"""A window in the memory of one process: for backtests, and to say what the shared one must answer."""

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rules.windows.queries import Buckets, CooldownClaim, Count, Run, WindowResult, WindowUpdate


@dataclass(slots=True)
class _Members:
    """Ids in order of (time, id)."""

    order: list[tuple[int, str]] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)

    def add(self, members: Iterable[tuple[int, str]]) -> int:
        """Add those whose id is not there; returns how many these were."""
        before = len(self.order)
        for at, member in members:
            if member not in self.times:
                self.times[member] = at
                insort(self.order, (at, member))
        return len(self.order) - before

    def rank(self, member: str) -> int:
        return bisect_left(self.order, (self.times[member], member))

    def before(self, at: int) -> int:
        """How many are older than this time."""
        return bisect_left(self.order, (at,))

    def trim(self, horizon: int, keep: int) -> None:
        """Drop what is not younger than the horizon, and all but the newest."""
        old = max(self.before(horizon + 1), len(self.order) - keep)
        for _, member in self.order[:old]:
            del self.times[member]
        del self.order[:old]


@dataclass(slots=True)
class _Buckets:
    """Counts by bucket, with the ids that were counted."""

    first: int | None = None
    seen: dict[int, set[str]] = field(default_factory=dict)


class MemoryWindow:
    """A `Window` that nobody else sees."""

    def __init__(self) -> None:
        self._windows: defaultdict[str, _Members] = defaultdict(_Members)
        self._buckets: defaultdict[str, _Buckets] = defaultdict(_Buckets)
        self._claims: defaultdict[str, _Members] = defaultdict(_Members)

    def observe(self, watches: Sequence[WindowUpdate]) -> list[WindowResult]:
        return [sighting for position, watch in enumerate(watches) for sighting in self._answer(position, watch)]

    def free(self, claims: Sequence[CooldownClaim]) -> list[list[bool]]:
        return [list(self._free(claim)) for claim in claims]

    def claim(self, claims: Sequence[CooldownClaim]) -> None:
        for claim in claims:
            claimed = self._claims[claim.key]
            claimed.add(claim.members)
            claimed.trim(claim.members[-1][0] - claim.past, claim.keep)

    def _answer(self, position: int, watch: WindowUpdate) -> Iterable[WindowResult]:
        question = watch.question
        if isinstance(question, Buckets):
            return list(_buckets(self._buckets[watch.key], position, watch, question))
        window = self._windows[watch.key]
        again = window.add(watch.members) < len(watch.members)
        if isinstance(question, Run):
            found = list(_run(window, position, watch, question, again))
        else:
            found = list(_count(window, position, watch, question))
        window.trim(watch.newest - question.past, question.keep)
        return found

    def _free(self, claim: CooldownClaim) -> Iterator[bool]:
        claimed = self._claims[claim.key]
        speaks: int | None = None
        for at, member in claim.members:
            free = claimed.before(at + claim.cooldown) == claimed.before(at - claim.cooldown + 1)
            free = free and (speaks is None or at - speaks >= claim.cooldown)
            speaks = at if free else speaks
            yield free or member in claimed.times


def _run(window: _Members, position: int, watch: WindowUpdate, run: Run, again: bool) -> Iterator[WindowResult]:
    # An event is the last of a run when the member `needed - 1` before it is less than `width` older. A new event can
    # make so those less than `width` later, `needed - 1` ranks at most. Of these, whoever is so without the new ones
    # (`new` that came up to it, but for those `gone` from its window) has been named before.
    mine = {member for _, member in watch.members}
    order, needed, width = window.order, run.needed, run.width
    last = window.rank(watch.members[-1][1]) + needed
    new = gone = 0
    for rank in range(window.rank(watch.members[0][1]), len(order) if again else min(last, len(order))):
        at, member = order[rank]
        if at >= watch.members[-1][0] + width:
            break
        new += member in mine
        while gone < new and watch.members[gone][0] <= at - width:
            gone += 1
        known = _within(order, rank - needed + 1 - (new - gone), at - width)
        if _within(order, rank - needed + 1, at - width) and (again or member in mine or not known):
            yield WindowResult(position, member, at, needed)


def _within(order: Sequence[tuple[int, str]], rank: int, after: int) -> bool:
    return rank >= 0 and order[rank][0] > after


def _count(window: _Members, position: int, watch: WindowUpdate, count: Count) -> Iterator[WindowResult]:
    for at, member in watch.members:
        yield WindowResult(position, member, at, window.before(at + 1) - window.before(at - count.width + 1))


def _buckets(window: _Buckets, position: int, watch: WindowUpdate, question: Buckets) -> Iterator[WindowResult]:
    members: dict[int, list[tuple[int, str]]] = {}
    for at, member in watch.members:
        members.setdefault(at // question.size, []).append((at, member))
    for bucket, new in members.items():
        window.seen.setdefault(bucket, set()).update(member for _, member in new)
        window.first = bucket if window.first is None else min(bucket, window.first)
        if window.first > bucket - question.baseline:
            continue
        counts = [len(window.seen.get(bucket - back, ())) for back in range(1, question.baseline + 1)]
        total, squares = sum(counts), sum(count * count for count in counts)
        before = len(window.seen[bucket]) - len(new)
        for order, (at, member) in enumerate(new, 1):
            yield WindowResult(position, member, at, before + order, total, squares)
    if len(window.seen) > 2 * question.keep:
        oldest = watch.newest // question.size - question.keep
        window.seen = {bucket: ids for bucket, ids in window.seen.items() if bucket >= oldest}

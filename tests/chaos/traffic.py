"""Deterministic events for a seed: many short, interleaved episodes; a few are long enough for an alert."""

import heapq
import random
from collections.abc import Iterator
from itertools import count, cycle
from typing import Any
from uuid import UUID

from chaos.system import Event

EVENT_TYPE = "step"
SOURCES = ("gate", "pump", "valve")
#: The events of an episode are spread over this many seconds of traffic.
SPREAD_SECONDS = 2.0
#: Fires for each event of an episode after the fourth, in any order of processing.
RULE: dict[str, Any] = {
    "name": "Long episode",
    "severity": "critical",
    "window_seconds": 60,
    "cooldown_seconds": 0,
    "allowed_lateness_seconds": 3_600,
    "condition": {
        "type": "threshold",
        "filters": {"event_type": EVENT_TYPE},
        "group_by": ["payload.episode"],
        "operator": ">",
        "value": 4,
    },
}
#: Later events of an episode carry an alarm for the stock system, which has no rules: as many as `RULE` finds.
EVENTS_WITHOUT_ALARM = 4
#: Fires for nearly every event of a source; the cooldown must suppress all but the first.
COOLDOWN_RULE: dict[str, Any] = {
    "name": "Busy source",
    "severity": "critical",
    "window_seconds": 10,
    "cooldown_seconds": 20,
    "allowed_lateness_seconds": 3_600,
    "condition": {
        "type": "threshold",
        "filters": {"event_type": EVENT_TYPE},
        "group_by": ["source"],
        "operator": ">",
        "value": 30,
    },
}
#: Bounds of the alerts per second; lower for high rates, because the evidence of each alert is read from a minute.
MAX_ALERTS_PER_SECOND, ALERTS_TIMES_EVENTS = 5.0, 3_000.0


def traffic(seed: int, per_second: float, groups: int | None = None) -> Iterator[Event]:
    """Yield events without timestamps, endlessly, for a rate of `per_second`.

    An episode has 3 to 7 events, spread randomly over `SPREAD_SECONDS`. Each episode is a new group; with `groups`,
    that many groups repeat.
    """
    rng = random.Random(seed)
    sizes, weights = (3, 4, 5, 6, 7), _weights(per_second)
    waiting: list[tuple[float, int, int]] = []
    start = 0.0
    for episode in cycle(range(groups)) if groups else count():
        while waiting and waiting[0][0] <= start:
            _, number, n = heapq.heappop(waiting)
            yield event(rng, f"{seed}-{number}", n)
        (size,) = rng.choices(sizes, weights)
        for n in range(size):
            heapq.heappush(waiting, (start + rng.uniform(0, SPREAD_SECONDS * per_second), episode, n))
        start += size


def event(rng: random.Random, episode: str, n: int) -> Event:
    return {
        "event_id": str(UUID(int=rng.getrandbits(128), version=4)),
        "event_type": EVENT_TYPE,
        "source": rng.choice(SOURCES),
        "payload": {"episode": episode, "n": n} | ({"alarm": True} if n >= EVENTS_WITHOUT_ALARM else {}),
    }


def _weights(per_second: float) -> list[float]:
    # If 5, 6 and 7 events each have the share s, an episode has about 3.5 events and 6 s alerts.
    alerts_per_second = min(MAX_ALERTS_PER_SECOND, ALERTS_TIMES_EVENTS / per_second)
    share = min(0.2, alerts_per_second * 3.5 / 6 / per_second)
    rest = (1 - 3 * share) / 2
    return [rest, rest, share, share, share]

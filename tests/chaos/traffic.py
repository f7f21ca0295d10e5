"""Generator of reproducible events: interleaved episodes, a few of which are long enough for an alert."""

import heapq
import random
from collections.abc import Iterator
from itertools import count, cycle
from typing import Any
from uuid import UUID

from chaos.system import Event

EVENT_TYPE = "step"
SOURCES = ("gate", "pump", "valve")
#: Maximum duration of an episode, in seconds.
SPREAD_SECONDS = 2.0
#: Rule that fires for the fifth and each later event of an episode, in any order of processing.
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
#: Number of events at the start of an episode for which `RULE` does not fire. Each later event has `alarm` in its
#: payload, so that stock Dramatiq, which has no rules, sends an alert for the same events.
EVENTS_WITHOUT_ALARM = 4
#: Rule that fires for nearly every event of a source; its cooldown must suppress nearly all of these firings.
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
#: Maximum number of alerts per second, and maximum product of the alerts per second and the events per second. The
#: product is limited because the evidence of each alert is read from all events of a minute.
MAX_ALERTS_PER_SECOND, ALERTS_TIMES_EVENTS = 5.0, 3_000.0


def traffic(seed: int, per_second: float, groups: int | None = None) -> Iterator[Event]:
    """Yield an unlimited number of events without timestamps, to be sent at a rate of `per_second`.

    An episode has 3 to 7 events, spread randomly over `SPREAD_SECONDS`. Each episode has a new group;
    with `groups`, the episodes use that number of groups in turn.
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
    # If the sizes 5, 6 and 7 have the share s each, an episode has about 3.5 events and 6 * s alerts on average.
    alerts_per_second = min(MAX_ALERTS_PER_SECOND, ALERTS_TIMES_EVENTS / per_second)
    share = min(0.2, alerts_per_second * 3.5 / 6 / per_second)
    rest = (1 - 3 * share) / 2
    return [rest, rest, share, share, share]

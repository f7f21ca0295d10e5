"""The same events for the same seed: many short episodes, interleaved, of which a few are long enough for an alert."""

import heapq
import random
from collections.abc import Iterator
from itertools import count, cycle
from typing import Any
from uuid import UUID

from chaos.system import Event

EVENT_TYPE = "step"
SOURCES = ("gate", "pump", "valve")
#: How far apart the events of an episode may be sent, in seconds of traffic.
SPREAD_SECONDS = 2.0
#: It fires for each event of an episode beyond its fourth, in whatever order they are processed.
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
#: An event after so many others of its episode carries an alarm, for those who have no rules: as many as `RULE` finds.
QUIET_EVENTS = 4
#: Of a source that fires for nearly every event, all but the first in each cooldown are to be silenced.
QUIET_RULE: dict[str, Any] = {
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
#: At most so many alerts a second; fewer of much traffic, for the evidence of each is read from all of a minute.
MOST_ALERTS_PER_SECOND, ALERTS_TIMES_EVENTS = 5.0, 3_000.0


def traffic(seed: int, per_second: float, groups: int | None = None) -> Iterator[Event]:
    """Events without a timestamp, without end; `per_second` of them are meant to be sent.

    An episode has 3 to 7 of them, at random within `SPREAD_SECONDS` of traffic. Each is a group of its own, or one of
    so many `groups` in turn.
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
        "payload": {"episode": episode, "n": n} | ({"alarm": True} if n >= QUIET_EVENTS else {}),
    }


def _weights(per_second: float) -> list[float]:
    # With a share of s each, episodes of 5, 6 and 7 bring 6 s alerts an episode of about 3.5 events.
    alerts_per_second = min(MOST_ALERTS_PER_SECOND, ALERTS_TIMES_EVENTS / per_second)
    share = min(0.2, alerts_per_second * 3.5 / 6 / per_second)
    rest = (1 - 3 * share) / 2
    return [rest, rest, share, share, share]

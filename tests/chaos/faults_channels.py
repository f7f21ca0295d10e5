"""A channel that does not take what it is told, while another is well."""

import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from chaos.context import Fault, Scene, Size, percentile
from chaos.ledger import ACKED
from chaos.observing import Alarm, seen
from chaos.webhooks import WELL, Webhook
from support import fake_http_server
from support.waiting import until

Behaviour = Callable[[socket.socket], None]
#: From the anomaly to the well channel's server, at most, at the 95th percentile.
UNDELAYED_SECONDS = 2.0
#: The well channel is given so long to be told of what is known when the other one is well again.
PATIENCE_SECONDS = 10.0


def reset(connection: socket.socket) -> None:
    """End the connection with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


#: By name: in words, and what it does; a name stands for what a server can do by itself.
BEHAVIOURS: dict[str, tuple[str, Behaviour | str]] = {
    "well": ("is as well as the other", WELL),  # to compare the others with
    "hangs": ("answers nothing", "say_nothing"),
    "500": ("answers 500", fake_http_server.answer(500)),
    "429": ("answers 429 with Retry-After: 3", fake_http_server.answer(429, Retry_After="3")),
    "resets": ("resets its connections", reset),
    "dribbles": ("answers a byte now and then", "drip"),
}


class Misbehave:
    """The first channel behaves so for 10 s; the second is always well."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, scene: Scene) -> None:
        first, second = scene.plant.webhooks
        _, behaviour = BEHAVIOURS[self.how]
        first.server.behaviour = getattr(first.server, behaviour) if isinstance(behaviour, str) else behaviour
        scene.flow(4 if scene.is_short else 10)
        first.server.behaviour = WELL
        scene.notes["attempts_meanwhile"] = sum(not taken for _, _, taken in first.told)
        scene.flow(1)
        # Events that have not come so far are not among the alarms: what holds them up is seen by their number.
        scene.notes["not_stored_by_then"] = len(scene.ledger.of(ACKED) - set(scene.plant.holdings().stored))
        alarms = seen(scene.plant).alarms()
        with suppress(AssertionError):
            until(lambda: alarms.keys() <= set(second.times_told()), PATIENCE_SECONDS)
        p95 = note_delays(scene, second, alarms)
        scene.expect(f"the well channel waited {p95} s", p95 is not None and p95 < UNDELAYED_SECONDS)


def note_delays(scene: Scene, well: Webhook, alarms: Mapping[str, Alarm]) -> float | None:
    """How long a channel waited for these alarms, or has waited by now for those that it was not told of.

    Returns the 95th percentile of the seconds from their recording; noted as well: from their event's acceptance.
    """
    now, acked = time.time(), scene.ledger.acked_at()
    monotonic = now - time.monotonic()
    told: dict[str, float] = {}
    for at, alarm_id, _ in well.told:
        told.setdefault(alarm_id, at)
    delays = sorted(told.get(alarm_id, now) - alarm.at for alarm_id, alarm in alarms.items())
    since = [(told.get(alarm_id, now), acked.get(alarm.event_id)) for alarm_id, alarm in alarms.items()]
    accepted = sorted(at - (monotonic + accepted_at) for at, accepted_at in since if accepted_at is not None)
    p95 = percentile(delays, 0.95)
    scene.notes["alarms_by_then"] = len(alarms)
    scene.notes["well_channel_not_told"] = len(alarms.keys() - told.keys())
    scene.notes["well_channel_p95_seconds"] = p95
    scene.notes["well_channel_max_seconds"] = max(delays, default=None)
    scene.notes["well_channel_p95_seconds_from_acceptance"] = percentile(accepted, 0.95)
    scene.notes["well_channel_max_seconds_from_acceptance"] = max(accepted, default=None)
    return p95


FAULTS = [
    Fault(
        f"webhook-{how}",
        f"For 10 s one of two channels {words}.",
        Misbehave(how),
        Size(1, 3_000, 100.0),
        Size(1, 1_000, 100.0),
        rest_seconds=150,
    )
    for how, (words, _) in BEHAVIOURS.items()
]

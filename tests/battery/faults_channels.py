"""A channel that does not take what it is told, while another is well."""

import socket
import struct
from collections.abc import Callable

import misbehaving
from battery.scene import Fault, Scene, Size, percentile
from battery.webhooks import WELL

Behaviour = Callable[[socket.socket], None]
#: From the anomaly to the well channel's server, at most, at the 95th percentile.
UNDELAYED_SECONDS = 2.0


def reset(connection: socket.socket) -> None:
    """End the connection with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


#: By name: in words, and what it does; a name stands for what a server can do by itself.
BEHAVIOURS: dict[str, tuple[str, Behaviour | str]] = {
    "hangs": ("answers nothing", "say_nothing"),
    "500": ("answers 500", misbehaving.answer(500)),
    "429": ("answers 429 with Retry-After: 3", misbehaving.answer(429, Retry_After="3")),
    "resets": ("resets its connections", reset),
    "dribbles": ("answers a byte now and then, for ever", "drip"),
}


class Misbehave:
    """The first channel misbehaves for 10 s; the second never does."""

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
        detected = dict(
            scene.plant.observed.rows("SELECT anomaly_id::text, extract(epoch FROM detected_at)::float FROM anomalies")
        )
        delays = sorted(at - detected[anomaly_id] for at, anomaly_id, _ in second.told if anomaly_id in detected)
        p95 = percentile(delays, 0.95)
        scene.notes["well_channel_p95_seconds"] = p95
        scene.expect(f"the well channel waited {p95} s", p95 is not None and p95 < UNDELAYED_SECONDS)


FAULTS = [
    Fault(
        f"webhook-{how}",
        f"One of two channels {words} for 10 s, and is well again.",
        Misbehave(how),
        Size(1, 8_000),
        Size(1, 2_000),
        plants=("ours",),
        rest_seconds=150,
    )
    for how, (words, _) in BEHAVIOURS.items()
]

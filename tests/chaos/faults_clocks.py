"""A worker whose clock goes wrong: leases and delays go by the clock of Redis, windows by that of the events."""

import importlib.util
import os

from chaos import clock
from chaos.context import Fault, Scene, Size, Skipped
from support.waiting import until

AHEAD_SECONDS = 61.0


def jump_ahead(scene: Scene) -> None:
    """The clock of one of the workers jumps while it works; with such a clock it would not have started."""
    if importlib.util.find_spec("time_machine") is None:
        raise Skipped("time-machine is not installed")
    plant = scene.plant
    plant.keepers["worker"].pop().end()
    known = workers_known(scene)
    jumpy = plant.add("worker", clock.command(0, AHEAD_SECONDS))
    until(lambda: workers_known(scene) - known, 30)
    for _ in range(scene.size.times):
        scene.flow(3 if scene.is_short else 60)
        os.kill(jumpy.process.pid, clock.JUMP)
        scene.recoveries.strike("its clock jumps")
    scene.flow(3 if scene.is_short else 60)
    # If others took it for dead it has lost its leases, or they theirs.
    scene.notes["starts"] = jumpy.starts
    scene.expect("the worker with the wrong clock ended", jumpy.starts == 1)


def workers_known(scene: Scene) -> set[bytes]:
    """The workers that have called lately, by Redis' clock."""
    client = scene.plant.observed.client
    now = client.time()[0] * 1000
    leases = client.zrangebyscore("eventpulse:__heartbeats__", now - 3_000, "+inf")
    return {lease.split(b"|")[1].split(b".")[0] for lease in leases}


FAULTS = [
    Fault(
        "clock-ahead",
        "The clock of one worker jumps ahead by 61 s, and again.",
        jump_ahead,
        Size(2, 50_000),
        Size(2, 2_000),
        plants=("ours",),
        recovers_within=20,
    ),
]

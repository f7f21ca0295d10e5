"""The leading scheduler dies or freezes, just when a worker's leases want to be recovered."""

import os
import signal
from contextlib import suppress

from chaos.context import Fault, Scene, Size, go_on, stop_process
from chaos.recovery import Blow

FROZEN_SECONDS = 30.0


def kill_leader(scene: Scene) -> None:
    def blow() -> Blow:
        with suppress(ProcessLookupError):
            os.kill(scene.oldest("scheduler"), signal.SIGKILL)
        return scene.kill_at_work()

    scene.repeat(blow, 60)


def freeze_leader(scene: Scene) -> None:
    """Its lease on the leadership is PostgreSQL's to end, which knows nothing of frozen clients."""
    leader = scene.oldest("scheduler")
    stop_process(leader)
    try:
        blow = scene.kill_at_work()
        scene.flow(5 if scene.is_short else FROZEN_SECONDS)
        scene.notes["recovered_while_frozen"] = blow.recovered.is_set()
    finally:
        go_on(leader)


FAULTS = [
    Fault(
        "scheduler-sigkill",
        "The leading one of two schedulers is killed, and a worker with it.",
        kill_leader,
        Size(10, 10_000),
        Size(1, 2_000),
        plants=("ours",),
        options={"schedulers": 2},
        recovers_within=22,
    ),
    Fault(
        "scheduler-frozen",
        "The leading one of two schedulers is stopped (SIGSTOP) for 30 s, and a worker is killed.",
        freeze_leader,
        Size(1, 10_000),
        Size(1, 2_000),
        plants=("ours",),
        options={"schedulers": 2},
    ),
]

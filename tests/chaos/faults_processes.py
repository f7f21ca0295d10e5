"""Processes of ours die, and are replaced."""

import os
import signal
from contextlib import suppress

from chaos.context import STARTING_SECONDS, Fault, Scene, Size
from chaos.keeping import running
from chaos.recovery import Blow


def kill_workers(scene: Scene) -> None:
    scene.repeat(scene.kill_at_work)


def roll(scene: Scene) -> None:
    units = [unit for unit in ("worker", "api", "scheduler") if scene.plant.keepers.get(unit)]

    def step() -> Blow:
        unit = units[len(scene.recoveries.blows) % len(units)]
        scene.plant.stop(unit, len(scene.recoveries.blows) // len(units))
        return scene.recoveries.strike(f"SIGTERM of a {unit}")

    scene.repeat(step)


def kill_api_workers(scene: Scene) -> None:
    scene.repeat(lambda: scene.kill("api"))


def kill_api_parents(scene: Scene) -> None:
    def blow() -> Blow:
        for parent in running(scene.plant.keepers["api"]):
            with suppress(ProcessLookupError):
                os.kill(parent.pid, signal.SIGKILL)
        return scene.recoveries.strike("SIGKILL of the API's parent")

    scene.repeat(blow)


FAULTS = [
    Fault(
        "worker-sigkill",
        "A worker is killed while it has work in hand.",
        kill_workers,
        Size(50, 100_000, 150.0),
        Size(2, 2_000),
        recovers_within=20,
    ),
    Fault(
        "rolling-restart",
        "Workers, the API and the scheduler are asked to stop, in turn, and others start.",
        roll,
        Size(20, 20_000),
        Size(3, 2_000),
        answers_within=STARTING_SECONDS,
        recovers_within=20,
    ),
    Fault(
        "api-worker-sigkill",
        "A worker of the API is killed in the middle of requests.",
        kill_api_workers,
        Size(20, 20_000),
        Size(2, 2_000),
        answers_within=STARTING_SECONDS,
        recovers_within=20,
    ),
    Fault(
        "api-parent-sigkill",
        "The API's parent process is killed, and its workers with it.",
        kill_api_parents,
        Size(20, 20_000),
        Size(2, 2_000),
        answers_within=STARTING_SECONDS,
        recovers_within=20,
    ),
]

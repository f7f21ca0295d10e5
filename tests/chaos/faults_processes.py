"""Faults of the processes of a system: SIGKILL, and graceful restarts."""

import os
import signal
from contextlib import suppress

from chaos.context import STARTING_SECONDS, Context, Fault, Size
from chaos.recovery_tracker import Injection
from chaos.supervised_process import running


def kill_workers(context: Context) -> None:
    context.repeat(context.kill_busy_worker)


def roll(context: Context) -> None:
    units = [unit for unit in ("worker", "api", "scheduler") if context.system.processes.get(unit)]

    def step() -> Injection:
        unit = units[len(context.recoveries.injections) % len(units)]
        context.system.stop(unit, len(context.recoveries.injections) // len(units))
        return context.recoveries.record_injection(f"SIGTERM of a {unit}")

    context.repeat(step)


def kill_api_workers(context: Context) -> None:
    context.repeat(lambda: context.kill("api"))


def kill_api_parents(context: Context) -> None:
    def inject() -> Injection:
        for parent in running(context.system.processes["api"]):
            with suppress(ProcessLookupError):
                os.kill(parent.pid, signal.SIGKILL)
        return context.recoveries.record_injection("SIGKILL of the API's parent")

    context.repeat(inject)


FAULTS = [
    Fault(
        "worker-sigkill",
        "A worker is killed while it holds leases.",
        kill_workers,
        Size(50, 100_000, 150.0),
        Size(2, 2_000),
        recovers_within=20,
    ),
    Fault(
        "rolling-restart",
        "Workers, the API and the scheduler are restarted gracefully, in turn.",
        roll,
        Size(20, 20_000),
        Size(3, 2_000),
        answers_within=STARTING_SECONDS,
        recovers_within=20,
    ),
    Fault(
        "api-worker-sigkill",
        "An API worker process is killed during requests.",
        kill_api_workers,
        Size(20, 20_000),
        Size(2, 2_000),
        answers_within=STARTING_SECONDS,
        recovers_within=20,
    ),
    Fault(
        "api-parent-sigkill",
        "The API's parent process is killed with its workers.",
        kill_api_parents,
        Size(20, 20_000),
        Size(2, 2_000),
        answers_within=STARTING_SECONDS,
        recovers_within=20,
    ),
]

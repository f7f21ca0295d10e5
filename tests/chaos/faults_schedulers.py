"""Faults of the leading scheduler while the leases of a killed worker must be recovered."""

import os
import signal
from contextlib import suppress

from chaos.context import Context, Fault, Size, resume_process, suspend_process
from chaos.recovery_tracker import Injection

SUSPENDED_SECONDS = 30.0


def kill_leader(context: Context) -> None:
    def inject() -> Injection:
        with suppress(ProcessLookupError):
            os.kill(context.oldest("scheduler"), signal.SIGKILL)
        return context.kill_busy_worker()

    context.repeat(inject, 60)


def suspend_leader(context: Context) -> None:
    """Suspend the leader, which keeps its session lock in PostgreSQL, and kill a worker."""
    leader = context.oldest("scheduler")
    suspend_process(leader)
    try:
        injection = context.kill_busy_worker()
        context.wait(5 if context.is_short else SUSPENDED_SECONDS)
        context.notes["recovered_while_suspended"] = injection.recovered.is_set()
    finally:
        resume_process(leader)


FAULTS = [
    Fault(
        "scheduler-sigkill",
        "The leading scheduler and a worker are killed.",
        kill_leader,
        Size(10, 10_000),
        Size(1, 2_000),
        systems=("eventpulse",),
        options={"schedulers": 2},
        recovers_within=22,
    ),
    Fault(
        "scheduler-suspended",
        "The leading scheduler is suspended (SIGSTOP) for 30 s, and a worker is killed.",
        suspend_leader,
        Size(1, 10_000),
        Size(1, 2_000),
        systems=("eventpulse",),
        options={"schedulers": 2},
    ),
]

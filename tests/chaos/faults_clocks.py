"""Fault of the clock of a worker. Leases and delays use the clock of Redis; windows use the timestamps of events."""

import importlib.util
import os

from chaos import clock
from chaos.context import Context, Fault, Size, Skipped
from support.waiting import until

AHEAD_SECONDS = 61.0


def jump_ahead(context: Context) -> None:
    """Shift the clock of a worker after its start, because a worker with a wrong clock does not start."""
    if importlib.util.find_spec("time_machine") is None:
        raise Skipped("time-machine is not installed")
    system = context.system
    system.processes["worker"].pop().stop()
    workers_before = known_workers(context)
    shifted = system.add("worker", clock.command(0, AHEAD_SECONDS))
    until(lambda: known_workers(context) - workers_before, 30)
    for _ in range(context.size.injections):
        context.wait(3 if context.is_short else 60)
        os.kill(shifted.process.pid, clock.JUMP)
        context.recoveries.record_injection("the clock jumps")
    context.wait(3 if context.is_short else 60)
    # The supervisor restarts a worker that ends: a single start shows that the worker did not end.
    context.notes["starts"] = shifted.starts
    context.expect("the worker with the wrong clock ended", shifted.starts == 1)


def known_workers(context: Context) -> set[bytes]:
    """Return the ids of the workers whose last heartbeat is at most 3 s old by the clock of Redis."""
    client = context.system.state.client
    now = client.time()[0] * 1000
    leases = client.zrangebyscore("eventpulse:__heartbeats__", now - 3_000, "+inf")
    return {lease.split(b"|")[1].split(b".")[0] for lease in leases}


FAULTS = [
    Fault(
        "clock-ahead",
        "The clock of one worker jumps ahead by 61 s, twice.",
        jump_ahead,
        Size(2, 50_000),
        Size(2, 2_000),
        systems=("eventpulse",),
        recovers_within=20,
    ),
]

"""Soak test: detection of memory, connections and leases that grow under a steady load."""

import time
from collections.abc import Sequence
from statistics import median

import psutil
import redis
from chaos.context import Context, Fault, Size
from chaos.server_state import UNAVAILABLE

SAMPLE_SECONDS = 5.0
#: Maximum growth from the median of the middle third of the samples to the median of the last third, as a share.
TOLERANCE = 0.10
#: Growth that is always allowed: bytes of memory, number of connections, number of leases.
JITTER = {"rss": 4_000_000, "connections": 3, "leases": 20}


def soak(context: Context) -> None:
    """Sample the resources for `system.soak_minutes` minutes, and expect that no resource grows."""
    samples: dict[str, list[float]] = {}
    deadline = time.monotonic() + context.system.soak_minutes * 60
    while time.monotonic() < deadline:
        for name, value in sample(context).items():
            samples.setdefault(name, []).append(value)
        context.wait(min(SAMPLE_SECONDS, context.system.soak_minutes * 60 / 15))
    thirds = {name: third_medians(values) for name, values in sorted(samples.items())}
    context.notes["minutes"] = context.system.soak_minutes
    context.notes["thirds"] = thirds
    growing = [name for name, medians in thirds.items() if not is_flat(name, medians)]
    context.notes["growing"] = growing
    # A soak test of less than 5 minutes does not fail: caches and heaps of a healthy system also grow at first.
    context.expect(f"these resources grow: {', '.join(growing)}", not growing or context.system.soak_minutes < 5)


def sample(context: Context) -> dict[str, float]:
    """Return the resident memory of each process in bytes, and the numbers of connections and of leases.

    Values that cannot be read, as during an outage, are missing.
    """
    system = context.system
    values: dict[str, float] = {}
    for unit in ("api", "worker", "scheduler"):
        for number, pid in enumerate(system.pids(unit)):
            values |= _rss(f"rss {unit} {number}", pid)
    values |= _rss("rss redis", system.redis.pid)
    try:
        with redis.Redis.from_url(system.redis.url) as client:
            values["connections redis"] = client.info("clients")["connected_clients"]
        if state := getattr(system, "state", None):
            backends = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            ((values["connections postgres"],),) = state.rows(backends)
            values["leases"] = len(state.leased())
    except UNAVAILABLE:
        pass
    return values


def third_medians(values: Sequence[float]) -> list[float]:
    """Return the medians of the first, the middle and the last third of the samples."""
    third = max(1, len(values) // 3)
    return [round(median(part or values)) for part in (values[:third], values[third : 2 * third], values[2 * third :])]


def is_flat(name: str, medians: Sequence[float]) -> bool:
    _, middle, last = medians
    return last <= middle * (1 + TOLERANCE) or last - middle <= JITTER[name.split()[0]]


def _rss(name: str, pid: int) -> dict[str, float]:
    try:
        return {name: psutil.Process(pid).memory_info().rss}
    except psutil.NoSuchProcess:
        return {}


FAULTS = [
    Fault(
        "soak",
        "The load is a third of the maximum for `--soak-minutes` minutes.",
        soak,
        Size(1, 10_000, 4_500.0),
        Size(1, 10_000, 4_500.0),
        systems=("eventpulse",),  # stock Dramatiq cannot sustain this rate
        options={"lateness_seconds": 60},
        # A group is used again after about 150 s, when its earlier events can no longer change a window.
        groups=200_000,
        idle_within=180,
    ),
]

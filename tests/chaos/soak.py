"""A moderate load for long: what grows?"""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import psutil
import redis
from chaos.context import Fault, Scene, Size
from chaos.observing import AWAY

SAMPLE_SECONDS = 5.0
#: Flat: the last third within so much of the middle third. What is small may jitter by so much all the same.
TOLERANCE = 0.10
JITTER = {"rss": 4_000_000, "connections": 3, "leases": 20}


def soak(scene: Scene) -> None:
    samples: dict[str, list[float]] = {}
    deadline = time.monotonic() + scene.plant.soak_minutes * 60
    while time.monotonic() < deadline:
        for name, value in sample(scene).items():
            samples.setdefault(name, []).append(value)
        scene.flow(min(SAMPLE_SECONDS, scene.plant.soak_minutes * 60 / 15))
    thirds = {name: third_medians(values) for name, values in sorted(samples.items())}
    scene.notes["minutes"] = scene.plant.soak_minutes
    scene.notes["thirds"] = thirds
    growing = [name for name, medians in thirds.items() if not is_flat(name, medians)]
    scene.notes["growing"] = growing
    # Minutes are too short for a verdict: caches fill and heaps find their size.
    scene.expect(f"grows: {', '.join(growing)}", not growing or scene.plant.soak_minutes < 5)


def sample(scene: Scene) -> dict[str, float]:
    """Resident memory in bytes of each process, connections of each server, and leases."""
    plant, found = scene.plant, {}
    for unit in ("api", "worker", "scheduler"):
        for number, pid in enumerate(plant.pids(unit)):
            found |= _rss(f"rss {unit} {number}", pid)
    found |= _rss("rss redis", plant.redis.pid)
    try:
        with redis.Redis.from_url(plant.redis.url) as client:
            found["connections redis"] = client.info("clients")["connected_clients"]
        if observed := getattr(plant, "observed", None):
            backends = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            ((found["connections postgres"],),) = observed.rows(backends)
            found["leases"] = len(observed.leased())
    except AWAY:
        pass
    return found


def third_medians(values: Sequence[float]) -> list[float]:
    third = max(1, len(values) // 3)
    return [round(median(part or values)) for part in (values[:third], values[third : 2 * third], values[2 * third :])]


def is_flat(name: str, medians: Sequence[float]) -> bool:
    _, middle, last = medians
    return last <= middle * (1 + TOLERANCE) or last - middle <= JITTER[name.split()[0]]


def _rss(name: str, pid: int) -> dict[str, Any]:
    try:
        return {name: psutil.Process(pid).memory_info().rss}
    except psutil.NoSuchProcess:
        return {}


FAULTS = [
    Fault(
        "soak",
        "A third of the load that can be had, for as long as is wanted.",
        soak,
        Size(1, 10_000, 4_500.0),
        Size(1, 10_000, 4_500.0),
        plants=("ours",),  # the others do not keep up
        options={"lateness_seconds": 60},
        # Each comes again after some 150 s, when what it had is too old to count, or to be late.
        groups=200_000,
        rest_seconds=180,
    ),
]

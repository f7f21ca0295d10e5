"""A message that kills whoever has it in hand."""

import time
from collections import Counter
from collections.abc import Set
from itertools import pairwise
from typing import Any
from uuid import UUID

import psutil
import psycopg2
from chaos.context import Scene, go_on, percentile, stop_process
from chaos.observing import NAMESPACE, seen
from chaos.traffic import event
from support.waiting import until

#: In company one more: its bundle comes back whole once before it is taken apart.
DEATHS = (3, 4)
COMPANY = 19
#: How long it is followed, if it is not given up before.
MOST_SECONDS, MOST_SECONDS_SHORT = 600.0, 150.0


def deadly(scene: Scene) -> None:
    """Whoever has the event in hand is killed, again and again: the store waits for us, so that it is in hand."""
    observed, marked = seen(scene.plant), str(UUID(int=scene.rng.getrandbits(128), version=4))
    scene.doomed.add(marked)
    neighbours, killed_at = Neighbours(observed), []
    most_seconds = MOST_SECONDS_SHORT if scene.is_short else MOST_SECONDS
    holder = psycopg2.connect(scene.plant.postgres.url, application_name="battery")
    try:
        with holder.cursor() as cursor:
            # Not committed: an INSERT of the same key waits for what becomes of it.
            cursor.execute(
                "INSERT INTO events VALUES (%s, 'step', 'gate', now(), '{}', '{}', now())",
                (marked,),
            )
            post(scene, marked)
            deadline = time.monotonic() + most_seconds
            killed_with: set[bytes] = set()

            def leases() -> set[bytes]:
                neighbours.look()
                return leases_of(scene, marked) - killed_with

            while time.monotonic() < deadline and not observed.reasons(marked):
                held = leases()
                pids = holders(scene, list(held)) if held else []
                if not pids:
                    scene.flow(0.1)
                    continue
                neighbours.share(held, marked)
                for pid in pids:
                    psutil.Process(pid).kill()
                killed_with |= held
                killed_at.append(time.monotonic())
                scene.recoveries.strike(f"death {len(killed_at)} of its worker")
            neighbours.look()
    finally:
        holder.rollback()
        holder.close()
    scene.notes["deaths"] = len(killed_at)
    scene.notes["redelivered_after_seconds"] = [round(b - a, 1) for a, b in pairwise(killed_at)]
    scene.notes["most_seconds"] = most_seconds
    scene.notes |= neighbours.notes()
    scene.notes["dead_letters"] = letters = observed.reasons(marked)
    scene.expect("it is not dead-lettered once", len(letters) == 1)
    scene.expect(f"it took {len(killed_at)} workers along", len(killed_at) in DEATHS)
    scene.expect("it had no neighbours", len(neighbours.times) >= COMPANY)
    scene.expect("it took its neighbours along", not scene.notes["neighbours_not_stored"])


class Neighbours:
    """Those that a worker had leased together with what it died of: when each was stored after all."""

    def __init__(self, observed: Any) -> None:
        self.observed = observed
        self.times: Counter[str] = Counter()
        self._since: dict[str, float] = {}
        self._seconds: dict[str, float] = {}

    def share(self, leases: Set[bytes], marked: str) -> None:
        """A worker with these leases dies now."""
        entries = [
            ids
            for lease, each in self.observed.leases.of("persist").items()
            if lease in leases
            for ids in each.values()
        ]
        ids = {event_id for found in entries for event_id in found} - {marked}
        self.times.update(ids)
        for event_id in ids:
            self._since.setdefault(event_id, time.monotonic())

    def look(self) -> None:
        """See who is stored by now."""
        if waiting := list(self._since.keys() - self._seconds.keys()):
            query = "SELECT event_id::text FROM events WHERE event_id = ANY(%s::uuid[])"
            for (event_id,) in self.observed.rows(query, waiting):
                self._seconds[event_id] = time.monotonic() - self._since[event_id]

    def notes(self) -> dict[str, Any]:
        seconds = sorted(self._seconds.values())
        return {
            "neighbours": len(self.times),
            "neighbours_of_several_deaths": sum(times > 1 for times in self.times.values()),
            "neighbours_not_stored": len(self.times) - len(seconds),
            "neighbours_p50_seconds": percentile(seconds, 0.5),
            "neighbours_max_seconds": max(seconds, default=None),
        }


def post(scene: Scene, event_id: str) -> None:
    """Send an event like the others, in a request with others, and have them in the ledger."""
    made = [event(scene.rng, f"company-{n}", 0) for n in range(COMPANY + 1)]
    made[scene.rng.randrange(len(made))]["event_id"] = event_id
    scene.ledger.send(made)


def leases_of(scene: Scene, event_id: str) -> set[bytes]:
    """The leases that an event is in."""
    leases = seen(scene.plant).leases.of("persist")
    return {lease for lease, entries in leases.items() if any(event_id in ids for ids in entries.values())}


def holders(scene: Scene, leases: list[bytes]) -> list[int]:
    """The workers that have a lease: those without which nobody calls for it any more."""
    if scene.plant.name != "ours":
        return list(scene.plant.holders(leases))
    client = scene.plant.observed.client
    names = [lease.removeprefix(f"{NAMESPACE}:__acks__.".encode()) for lease in leases]

    def called() -> list[Any]:
        return [client.zscore(f"{NAMESPACE}:__heartbeats__", name) for name in names]

    for pid in scene.plant.pids("worker"):
        stop_process(pid)
        try:
            scene.flow(0.1)
            before = called()
            try:
                until(lambda before=before: called() != before, 2.5)
            except AssertionError:
                return [pid]
        finally:
            go_on(pid)
    return []

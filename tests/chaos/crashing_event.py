"""Fault of an event that crashes its worker: each worker that leases the event is killed."""

import time
from collections import Counter
from collections.abc import Callable, Set
from itertools import pairwise
from typing import Any
from uuid import UUID

import psutil
import psycopg2
from chaos.context import Context, percentile, suspended
from chaos.server_state import NAMESPACE, state_of
from chaos.traffic import event
from support.waiting import until

#: Possible numbers of crashes until the event is dead-lettered; a bundle is redelivered once before it is split.
EXPECTED_CRASHES = (3, 4)
NEIGHBOURS = 19
#: Maximum time of observation in the full and in the short form, if the event does not become a dead letter.
OBSERVE_SECONDS, OBSERVE_SECONDS_SHORT = 600.0, 150.0


def kill_every_holder(context: Context) -> None:
    """Send an event whose INSERT is blocked by an open transaction, and kill each worker that leases the event."""
    state, marked = state_of(context.system), str(UUID(int=context.rng.getrandbits(128), version=4))
    context.expected_dead.add(marked)
    neighbours, killed_at = Neighbours(state), []
    observe_seconds = OBSERVE_SECONDS_SHORT if context.is_short else OBSERVE_SECONDS
    blocker = psycopg2.connect(context.system.postgres.url, application_name="chaos")
    try:
        with blocker.cursor() as cursor:
            # Not committed: the INSERT of the same event by a worker waits, so that the worker keeps the lease.
            cursor.execute(
                "INSERT INTO events VALUES (%s, 'step', 'gate', now(), '{}', '{}', now())",
                (marked,),
            )
            post(context, marked)
            deadline = time.monotonic() + observe_seconds
            killed_with: set[bytes] = set()

            def leases() -> set[bytes]:
                neighbours.poll()
                return leases_of(context, marked) - killed_with

            while time.monotonic() < deadline and not state.dead_letter_reasons(marked):
                held = leases()
                pids = holders(context, list(held)) if held else []
                if not pids:
                    context.wait(0.1)
                    continue
                neighbours.add(held, marked)
                for pid in pids:
                    psutil.Process(pid).kill()
                killed_with |= held
                killed_at.append(time.monotonic())
                context.recoveries.record_injection(f"crash {len(killed_at)} of a worker")
            neighbours.poll()
    finally:
        blocker.rollback()
        blocker.close()
    context.notes["crashes"] = len(killed_at)
    context.notes["redelivered_after_seconds"] = [round(b - a, 1) for a, b in pairwise(killed_at)]
    context.notes["observe_seconds"] = observe_seconds
    context.notes |= neighbours.notes()
    context.notes["dead_letters"] = letters = state.dead_letter_reasons(marked)
    context.expect(f"the event has {len(letters)} dead letters", len(letters) == 1)
    context.expect(f"the event crashed {len(killed_at)} workers", len(killed_at) in EXPECTED_CRASHES)
    context.expect(f"the event had only {len(neighbours.times)} neighbours", len(neighbours.times) >= NEIGHBOURS)
    context.expect("not all neighbours were stored", not context.notes["neighbours_not_stored"])


class Neighbours:
    """Events that were leased together with the crashing event, and the times until they were stored."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.times: Counter[str] = Counter()
        self._since: dict[str, float] = {}
        self._seconds: dict[str, float] = {}

    def add(self, leases: Set[bytes], marked: str) -> None:
        """Record the events in these leases, except `marked`, as the neighbours in one crash."""
        entries = [
            ids for lease, each in self.state.leases.of("persist").items() if lease in leases for ids in each.values()
        ]
        ids = {event_id for entry in entries for event_id in entry} - {marked}
        self.times.update(ids)
        for event_id in ids:
            self._since.setdefault(event_id, time.monotonic())

    def poll(self) -> None:
        """Record the neighbours that have been stored since the previous call."""
        if waiting := list(self._since.keys() - self._seconds.keys()):
            query = "SELECT event_id::text FROM events WHERE event_id = ANY(%s::uuid[])"
            for (event_id,) in self.state.rows(query, waiting):
                self._seconds[event_id] = time.monotonic() - self._since[event_id]

    def notes(self) -> dict[str, Any]:
        seconds = sorted(self._seconds.values())
        return {
            "neighbours": len(self.times),
            "neighbours_of_several_crashes": sum(times > 1 for times in self.times.values()),
            "neighbours_not_stored": len(self.times) - len(seconds),
            "neighbours_p50_seconds": percentile(seconds, 0.5),
            "neighbours_max_seconds": max(seconds, default=None),
        }


def post(context: Context, event_id: str) -> None:
    """Send an event with this id and `NEIGHBOURS` other events in one request, and record their outcome."""
    events = [event(context.rng, f"neighbour-{n}", 0) for n in range(NEIGHBOURS + 1)]
    events[context.rng.randrange(len(events))]["event_id"] = event_id
    context.client.send(events)


def leases_of(context: Context, event_id: str) -> set[bytes]:
    """Return the keys of the leases in `persist` that contain an event."""
    leases = state_of(context.system).leases.of("persist")
    return {lease for lease, entries in leases.items() if any(event_id in ids for ids in entries.values())}


def holders(context: Context, leases: list[bytes]) -> list[int]:
    """Return the pids of the workers that hold these leases, at most one pid for EventPulse.

    The workers of EventPulse are suspended in turn: a suspended worker holds the leases whose heartbeats stop.
    """
    if context.system.name != "eventpulse":
        return list(context.system.holders(leases))
    client = context.system.state.client
    names = [lease.removeprefix(f"{NAMESPACE}:__acks__.".encode()) for lease in leases]

    def heartbeats() -> list[Any]:
        return [client.zscore(f"{NAMESPACE}:__heartbeats__", name) for name in names]

    for pid in context.system.pids("worker"):
        with suspended(pid):
            context.wait(0.1)
            if not _changes(heartbeats, 2.5):
                return [pid]
    return []


def _changes(read: Callable[[], list[Any]], seconds: float) -> bool:
    before = read()
    try:
        return until(lambda: read() != before, seconds)
    except AssertionError:
        return False

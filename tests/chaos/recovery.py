"""How long it takes until a blow is made good."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from chaos.ledger import Ledger
from chaos.observing import AWAY
from chaos.system import Plant

LOOK_SECONDS = 0.25


@dataclass
class Blow:
    """`at` is when it fell, or when the server was back; `seconds` how long until all was well again."""

    at: float
    what: str
    #: What was leased when it fell, by whom, where that can be seen.
    leased: frozenset[Any] = frozenset()
    recovered: threading.Event = field(default_factory=threading.Event)
    seconds: float | None = None


class Recoveries:
    """Looks at a plant while any blow is open. It is made good when everything that was acknowledged before it is
    stored and evaluated, or dead-lettered, nothing is leased by a dead worker, and what was leased then is no more."""

    def __init__(self, plant: Plant, ledger: Ledger) -> None:
        self.plant, self.ledger = plant, ledger
        self.blows: list[Blow] = []
        self._settled: set[str] = set()
        self._open = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._open.set()
        self._thread.join()

    def strike(self, what: str) -> Blow:
        """A blow falls now."""
        made = Blow(time.monotonic(), what, self._leased())
        self.blows.append(made)
        self._open.set()
        return made

    def unrecovered(self) -> list[Blow]:
        return [blow for blow in self.blows if blow.seconds is None]

    def seconds(self) -> list[float]:
        return sorted(blow.seconds for blow in self.blows if blow.seconds is not None)

    def _watch(self) -> None:
        while not self._ending.is_set():
            self._open.wait()
            open_blows = self.unrecovered()
            if not open_blows:
                self._open.clear()
                if self.unrecovered():  # one fell just now
                    self._open.set()
                continue
            with suppress(AWAY):  # nobody can tell before the servers are back
                self._look(open_blows)
            self._ending.wait(LOOK_SECONDS)

    def _look(self, open_blows: list[Blow]) -> None:
        acked = self.ledger.acked_at()
        now = self.plant.holdings()
        leased = self._leased()
        done = (set(now.stored) - set(now.underway)) | now.dead
        self._settled |= done
        oldest = min((at for event_id, at in acked.items() if event_id not in self._settled), default=float("inf"))
        for blow in open_blows:
            if not now.stranded and blow.at < oldest and not blow.leased & leased:
                blow.seconds = time.monotonic() - blow.at
                blow.recovered.set()

    def _leased(self) -> frozenset[Any]:
        observed = getattr(self.plant, "observed", None)
        try:
            return frozenset(observed.leased()) if observed else frozenset()
        except AWAY:
            return frozenset()

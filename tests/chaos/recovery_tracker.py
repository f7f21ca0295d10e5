"""Measurement of the time that a system needs to recover from each injected fault."""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from chaos.recording_client import RecordingClient
from chaos.server_state import UNAVAILABLE
from chaos.system import System

POLL_SECONDS = 0.25


@dataclass
class Injection:
    """Injected fault: monotonic time of the injection (for outages, of the restart), and seconds until the recovery."""

    at: float
    description: str
    #: Leases and leased entries at the time of the injection; empty for stock Dramatiq.
    leased: frozenset[Any] = frozenset()
    recovered: threading.Event = field(default_factory=threading.Event)
    #: None until the system has recovered.
    seconds: float | None = None


class RecoveryTracker:
    """Thread that polls a system until it has recovered from all injections.

    A system has recovered when every event acknowledged before the injection is stored and evaluated, or
    dead-lettered; no lost worker holds leases; and the leases held at the injection have ended.
    """

    def __init__(self, system: System, client: RecordingClient) -> None:
        self.system, self.client = system, client
        self.injections: list[Injection] = []
        self._finished: set[str] = set()
        self._open = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._open.set()
        self._thread.join()

    def record_injection(self, description: str) -> Injection:
        """Start measuring the recovery from a fault that was injected now."""
        injection = Injection(time.monotonic(), description, self._leased())
        self.injections.append(injection)
        self._open.set()
        return injection

    def unrecovered(self) -> list[Injection]:
        return [injection for injection in self.injections if injection.seconds is None]

    def seconds(self) -> list[float]:
        return sorted(injection.seconds for injection in self.injections if injection.seconds is not None)

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._open.wait()
            open_injections = self.unrecovered()
            if not open_injections:
                self._open.clear()
                if self.unrecovered():  # an injection may have been recorded before `clear`
                    self._open.set()
                continue
            with suppress(*UNAVAILABLE):  # the servers cannot be read during an outage
                self._check(open_injections)
            self._stopping.wait(POLL_SECONDS)

    def _check(self, open_injections: list[Injection]) -> None:
        acked = self.client.acked_at()
        now = self.system.locations()
        leased = self._leased()
        done = (set(now.stored) - set(now.in_progress)) | now.dead
        self._finished |= done
        oldest = min((at for event_id, at in acked.items() if event_id not in self._finished), default=float("inf"))
        for injection in open_injections:
            if not now.stranded and injection.at < oldest and not injection.leased & leased:
                injection.seconds = time.monotonic() - injection.at
                injection.recovered.set()

    def _leased(self) -> frozenset[Any]:
        state = getattr(self.system, "state", None)
        try:
            return frozenset(state.leased()) if state else frozenset()
        except UNAVAILABLE:
            return frozenset()

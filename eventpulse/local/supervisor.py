"""Keeps processes alive, and stops them in order."""

import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from eventpulse.backoff import backoff_seconds
from eventpulse.errors import INTERRUPTED, OK
from eventpulse.local.process_output import ProcessOutput

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 15.0
STEADY_SECONDS = 10.0  # a process that lived this long has started well: its next restart is quick again
TICK_SECONDS = 0.1


class Process(Protocol):
    """A `Child` of ours or an embedded `Daemon`."""

    @property
    def pid(self) -> int: ...
    def spawn(self) -> None: ...
    def exit_status(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(eq=False)
class Unit:
    """A process under supervision. It runs, or waits until `restart_at`, on the monotonic clock."""

    name: str
    process: Process
    started_at: float = 0.0
    restart_at: float | None = None
    failures: int = 0


@dataclass(frozen=True)
class Phase:
    """Units that stop together, and how long they may take."""

    units: Sequence[Unit]
    grace_seconds: float


class Supervisor:
    """Runs phases of units; they start in reverse order of the phases and stop in order.

    The first SIGINT, SIGTERM or SIGHUP asks for the orderly stop, the second for a stop at once.
    """

    def __init__(self, phases: Sequence[Phase], board: ProcessOutput) -> None:
        self._phases = phases
        self._board = board
        self._units = [unit for phase in reversed(phases) for unit in phase.units]
        self._stopping = threading.Event()
        self._hurrying = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
                signal.signal(number, self._asked_to_stop)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def start(self) -> None:
        """Start every unit that does not run already."""
        for unit in self._units:
            unit.started_at = time.monotonic()
            if unit.process.exit_status() is not None:
                self._spawn(unit)

    def wait(self) -> None:
        """One tick: restart what has died and is due, and leave early when asked to stop."""
        for unit in self._units:
            self._tend(unit)
        self._stopping.wait(TICK_SECONDS)

    def stop(self) -> int:
        """Stop every phase within its grace; returns the exit code."""
        for phase in self._phases:
            self._stop(phase)
        return INTERRUPTED if self._hurrying.is_set() else OK

    def _tend(self, unit: Unit) -> None:
        now = time.monotonic()
        if unit.restart_at is not None:
            if now >= unit.restart_at and not self.stopping:
                unit.restart_at = None
                self._spawn(unit)
            return
        status = unit.process.exit_status()
        if status is None or self.stopping:
            return
        unit.process.kill()  # what it may have left of its session
        unit.failures = 1 if now - unit.started_at >= STEADY_SECONDS else unit.failures + 1
        delay = backoff_seconds(unit.failures, FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS)
        unit.restart_at = now + delay
        self._board.state(unit.name, f"{ended(status)}; starting it again in {delay:.1f} s")

    def _spawn(self, unit: Unit) -> None:
        unit.started_at = time.monotonic()
        unit.process.spawn()
        self._board.state(unit.name, f"started (process {unit.process.pid})")

    def _stop(self, phase: Phase) -> None:
        running = [unit for unit in phase.units if unit.process.exit_status() is None]
        for unit in running:
            unit.process.terminate()
        deadline = time.monotonic() + phase.grace_seconds
        while any(unit.process.exit_status() is None for unit in running):
            if self._hurrying.is_set() or time.monotonic() > deadline:
                break
            self._hurrying.wait(TICK_SECONDS / 5)
        for unit in running:
            late = unit.process.exit_status() is None
            unit.process.kill()
            self._board.state(unit.name, "killed: it did not stop in time" if late else "stopped")

    def _asked_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()


def ended(status: int) -> str:
    """How a process ended, in words."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"

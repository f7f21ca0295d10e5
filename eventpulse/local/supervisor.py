"""Supervision of processes: restarts with a backoff, and a stop in phases."""

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
STABLE_SECONDS = 10.0  # minimum run time after which the backoff starts again at `FIRST_BACKOFF_SECONDS`
TICK_SECONDS = 0.1


class Process(Protocol):
    """Protocol of a supervised process: a `Child` or an embedded `Daemon`."""

    @property
    def pid(self) -> int: ...
    def spawn(self) -> None: ...
    def exit_status(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(eq=False)
class Unit:
    """Supervised process. It is restarted at `restart_at`, unless that is None. Times are monotonic, in seconds."""

    name: str
    process: Process
    started_at: float = 0.0
    restart_at: float | None = None
    failures: int = 0


@dataclass(frozen=True)
class Phase:
    """Units that stop together, and the maximum time for the stop in seconds."""

    units: Sequence[Unit]
    grace_seconds: float


class Supervisor:
    """Supervisor of the units of several phases. The phases stop in order, and start in reverse order.

    The first SIGINT, SIGTERM or SIGHUP requests an orderly stop, the second signal an immediate stop.
    """

    def __init__(self, phases: Sequence[Phase], output: ProcessOutput) -> None:
        self._phases = phases
        self._output = output
        self._units = [unit for phase in reversed(phases) for unit in phase.units]
        self._stop_requested = threading.Event()
        self._kill_requested = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self._handle_signal)

    @property
    def stopping(self) -> bool:
        return self._stop_requested.is_set()

    def start(self) -> None:
        """Start every unit that is not running."""
        for unit in self._units:
            unit.started_at = time.monotonic()
            if unit.process.exit_status() is not None:
                self._spawn(unit)

    def wait(self) -> None:
        """Schedule the restarts of exited units, and make the restarts that are due.

        Then wait for `TICK_SECONDS`, or until a stop is requested.
        """
        for unit in self._units:
            self._restart_if_exited(unit)
        self._stop_requested.wait(TICK_SECONDS)

    def stop(self) -> int:
        """Stop the phases in order, each within its grace period; return the exit code."""
        for phase in self._phases:
            self._stop(phase)
        return INTERRUPTED if self._kill_requested.is_set() else OK

    def _restart_if_exited(self, unit: Unit) -> None:
        now = time.monotonic()
        if unit.restart_at is not None:
            if now >= unit.restart_at and not self.stopping:
                unit.restart_at = None
                self._spawn(unit)
            return
        status = unit.process.exit_status()
        if status is None or self.stopping:
            return
        unit.process.kill()  # the session of the process may contain other processes that are still running
        unit.failures = 1 if now - unit.started_at >= STABLE_SECONDS else unit.failures + 1
        delay = backoff_seconds(unit.failures, FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS)
        unit.restart_at = now + delay
        self._output.state(unit.name, f"{describe_exit(status)}; restarting in {delay:.1f} s")

    def _spawn(self, unit: Unit) -> None:
        unit.started_at = time.monotonic()
        unit.process.spawn()
        self._output.state(unit.name, f"started (process {unit.process.pid})")

    def _stop(self, phase: Phase) -> None:
        running = [unit for unit in phase.units if unit.process.exit_status() is None]
        for unit in running:
            unit.process.terminate()
        deadline = time.monotonic() + phase.grace_seconds
        while any(unit.process.exit_status() is None for unit in running):
            if self._kill_requested.is_set() or time.monotonic() > deadline:
                break
            self._kill_requested.wait(TICK_SECONDS / 5)
        for unit in running:
            is_late = unit.process.exit_status() is None
            unit.process.kill()
            self._output.state(unit.name, "killed, because it did not stop in time" if is_late else "stopped")

    def _handle_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop_requested.is_set():
            self._kill_requested.set()
        self._stop_requested.set()


def describe_exit(status: int) -> str:
    """Return the description of an exit status; a negative status is the number of a signal."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exited with code {status}"

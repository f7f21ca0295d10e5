"""Description of a fault, and the context in which the fault is injected."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psutil
from chaos.recording_client import RecordingClient
from chaos.recovery_tracker import Injection, RecoveryTracker
from support.waiting import until

from eventpulse.local.daemon import Daemon

#: Maximum response time of a request that arrives while the API starts.
STARTING_SECONDS = 5.0
#: Maximum time of the search for a worker that holds leases.
BUSY_SECONDS = 10.0


class Size(NamedTuple):
    """Number of injections, minimum number of events, and events per second."""

    injections: int
    events: int
    per_second: float = 400.0


@dataclass
class Context:
    """System under test, the client that sends events to the system, and the results that the fault records."""

    system: Any
    client: RecordingClient
    recoveries: RecoveryTracker
    rng: random.Random
    size: Size
    is_short: bool
    #: Results of the fault by name: numbers, texts and lists. The record also contains the results of the audit.
    notes: dict[str, Any] = field(default_factory=dict)
    #: Ids of the events that are expected to become dead letters.
    expected_dead: set[str] = field(default_factory=set)

    def expect(self, problem: str, holds: bool) -> None:
        """Record `problem` as a broken promise if `holds` is false."""
        if not holds:
            self.notes.setdefault("broken", []).append(problem)

    def await_acceptance(self, seconds: float = 30) -> None:
        """Wait until the API accepts an event, and record the duration. Record a timeout as a broken promise."""
        started, known = time.monotonic(), len(self.client.responses)
        try:
            until(lambda: any(each.kind == "202" for each in self.client.responses[known:]), seconds)
        except AssertionError:
            self.expect(f"the API accepted no event within {seconds:g} s", False)
        self.notes.setdefault("accepts_again_seconds", []).append(round(time.monotonic() - started, 2))

    def wait(self, seconds: float) -> None:
        """Wait for `seconds` while the traffic continues."""
        time.sleep(seconds)

    def pause(self, at_least: float = 0.3, at_most: float = 1.5) -> None:
        """Wait for a random time in seconds, so that faults are injected in every phase of the processing."""
        self.wait(self.rng.uniform(at_least, at_most))

    def pid(self, unit: str) -> int:
        """Return the pid of a random process of a unit. Raises `AssertionError` if no process runs within 30 s."""
        return self.rng.choice(until(lambda: self.system.pids(unit), 30))

    def oldest(self, unit: str) -> int:
        """Return the pid of the oldest process of a unit. Raises `AssertionError` if no process runs within 30 s."""
        return until(lambda: self.system.pids(unit), 30)[0]

    def kill(self, unit: str) -> Injection:
        """Kill a random process of a unit (SIGKILL), and return the injection."""
        with suppress(ProcessLookupError):
            os.kill(self.pid(unit), signal.SIGKILL)
        return self.recoveries.record_injection(f"SIGKILL of a {unit}")

    def kill_busy_worker(self) -> Injection:
        """Kill a worker that holds leases (SIGKILL), and return the injection.

        If no such worker is found within `BUSY_SECONDS`, or if the system is stock Dramatiq, kill a random worker.
        """
        state = getattr(self.system, "state", None)
        deadline = time.monotonic() + BUSY_SECONDS
        while state and time.monotonic() < deadline:
            pid = self.pid("worker")
            with suppress(ProcessLookupError), suspended(pid):
                self.wait(0.05)
                before = state.leased()
                self.wait(0.1)
                # Running workers acknowledge an entry within 0.1 s: an older lease belongs to the suspended worker.
                if before & state.leased():
                    os.kill(pid, signal.SIGKILL)
                    return self.recoveries.record_injection("SIGKILL of a busy worker")
            self.pause(0.02, 0.1)
        return self.kill("worker")

    def await_recovery(self, injection: Injection, seconds: float = 30) -> None:
        """Wait until the system has recovered from an injection, at most `seconds`."""
        injection.recovered.wait(seconds)

    def repeat(self, inject: Callable[[], Injection], at_most_seconds: float = 30) -> None:
        """Inject a fault `size.injections` times; in the full form, wait for the recovery after each injection."""
        for _ in range(self.size.injections):
            self.pause()
            injection = inject()
            if not self.is_short:
                self.await_recovery(injection, at_most_seconds)

    def outage(self, server: Daemon, down_seconds: float, stop: Callable[[Daemon], None]) -> Injection:
        """Stop a server with `stop`, restart it after `down_seconds`, and measure the recovery from the restart."""
        stop(server)
        self.wait(down_seconds)
        server.start()
        return self.recoveries.record_injection(f"{server.name} was restarted")


class Skipped(Exception):
    """Raised when a fault cannot be injected on this machine; the message gives the reason."""


Inject = Callable[[Context], None]


@dataclass(frozen=True)
class Fault:
    """Fault, its size, and the limits that apply to EventPulse; times are in seconds."""

    name: str
    description: str
    inject: Inject
    full: Size
    short: Size
    systems: tuple[str, ...] = ("eventpulse", "stock")
    #: Keyword arguments of the system factory.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Part of PostgreSQL that is stored on the small disk `system.disk`: "data" or "log"; None for no small disk.
    disk: str | None = None
    #: Function that starts EventPulse for this fault; by default `eventpulse_system`.
    system_factory: Callable[..., Any] | None = None
    #: Maximum recovery time, or None for no limit: after a long outage, the time depends on the size of the backlog.
    recovers_within: float | None = None
    #: Text in the record that describes the moment from which the recovery time is measured.
    counted_from: str = "the injection"
    #: Whether the client resends requests whose outcome is indeterminate.
    repeat: bool = False
    #: Number of groups that the episodes use in turn; if None, each episode has a new group.
    groups: int | None = None
    #: Maximum time from the last event until the system is idle.
    idle_within: float = 90.0
    #: Maximum response time, or None for no limit.
    answers_within: float | None = 1.0


@contextmanager
def suspended(pid: int) -> Iterator[None]:
    """Suspend a process (SIGSTOP) for the duration of the block."""
    suspend_process(pid)
    try:
        yield
    finally:
        resume_process(pid)


def suspend_process(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def resume_process(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def kill_server(server: Daemon) -> None:
    """Kill a server and its children (SIGKILL), because surviving children could respond to connected clients."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(server.pid)
        for process in (parent, *parent.children()):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    until(lambda: server.exit_status() is not None)


def stop_server(server: Daemon) -> None:
    """Stop a server gracefully."""
    server.stop()


def percentile(ordered: list[float], share: float) -> float | None:
    """Return the percentile `share` (0 to 1) of an ordered list; None if the list is empty."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

"""What a fault has to work with."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import psutil
from chaos.ledger import Ledger
from chaos.recovery import Blow, Recoveries
from support.waiting import until

from eventpulse.local.daemon import Daemon

#: What connects while an API starts is answered once it has started.
STARTING_SECONDS = 5.0
#: How long a worker with work in hand is looked for.
BUSY_SECONDS = 10.0


class Size(NamedTuple):
    """How often a blow falls, at least how many events are sent meanwhile, and how many a second."""

    times: int
    events: int
    per_second: float = 400.0


@dataclass
class Scene:
    """A plant under traffic. `notes` are what a fault found out beyond the account; numbers, texts, lists."""

    plant: Any
    ledger: Ledger
    recoveries: Recoveries
    rng: random.Random
    size: Size
    is_short: bool
    notes: dict[str, Any] = field(default_factory=dict)
    #: Events that are to be dead-lettered.
    doomed: set[str] = field(default_factory=set)

    def expect(self, claim: str, holds: bool) -> None:
        """Note a promise that is broken, unless it holds."""
        if not holds:
            self.notes.setdefault("broken", []).append(claim)

    def await_acceptance(self, seconds: float = 30) -> None:
        """Wait until events are accepted again, and note how long that took; it is promised to be so before long."""
        since, known = time.monotonic(), len(self.ledger.answers)
        try:
            until(lambda: any(each.kind == "202" for each in self.ledger.answers[known:]), seconds)
        except AssertionError:
            self.expect(f"still refuses after {seconds:g} s", False)
        self.notes.setdefault("accepts_again_seconds", []).append(round(time.monotonic() - since, 2))

    def flow(self, seconds: float) -> None:
        """Let events flow for so long."""
        time.sleep(seconds)

    def pause(self, least: float = 0.3, most: float = 1.5) -> None:
        """Until the next blow: nobody knows when."""
        self.flow(self.rng.uniform(least, most))

    def pid(self, unit: str) -> int:
        """A random process of a unit; waits until there is one."""
        return self.rng.choice(until(lambda: self.plant.pids(unit), 30))

    def oldest(self, unit: str) -> int:
        """The process of a unit that has run for longest."""
        return until(lambda: self.plant.pids(unit), 30)[0]

    def kill(self, unit: str) -> Blow:
        """SIGKILL a random process of a unit."""
        with suppress(ProcessLookupError):
            os.kill(self.pid(unit), signal.SIGKILL)
        return self.recoveries.strike(f"SIGKILL of a {unit}")

    def kill_at_work(self) -> Blow:
        """SIGKILL a worker that has something in hand; a random one, where nobody can see that."""
        observed = getattr(self.plant, "observed", None)
        deadline = time.monotonic() + BUSY_SECONDS
        while observed and time.monotonic() < deadline:
            pid = self.pid("worker")
            with suppress(ProcessLookupError), held(pid):
                self.flow(0.05)
                before = observed.leased()
                self.flow(0.1)
                # What the others had in hand they have settled by now.
                if before & observed.leased():
                    os.kill(pid, signal.SIGKILL)
                    return self.recoveries.strike("SIGKILL of a worker at work")
            self.pause(0.02, 0.1)
        return self.kill("worker")

    def await_recovery(self, blow: Blow, seconds: float = 30) -> None:
        """Wait for a blow to be made good, but not for ever."""
        blow.recovered.wait(seconds)

    def repeat(self, blow: Callable[[], Blow], most_seconds: float = 30) -> None:
        """Strike as often as is wanted; in the full form, each only when the one before is made good."""
        for _ in range(self.size.times):
            self.pause()
            struck = blow()
            if not self.is_short:
                self.await_recovery(struck, most_seconds)

    def outage(self, server: Daemon, down_seconds: float, stop: Callable[[Daemon], None]) -> Blow:
        """Take a server away for so long; the blow counts from when it is back."""
        stop(server)
        self.flow(down_seconds)
        server.start()
        return self.recoveries.strike(f"{server.name} is back")


class Skipped(Exception):
    """A fault cannot be had here; the message says why."""


Act = Callable[[Scene], None]


@dataclass(frozen=True)
class Fault:
    """One row of the table; times are in seconds."""

    name: str
    what: str
    act: Act
    full: Size
    short: Size
    plants: tuple[str, ...] = ("ours", "stock")
    #: Options of the plant.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: What of PostgreSQL is on a small disk, the plant's `disk`: its "data" or its "log".
    disk: str | None = None
    #: Makes ours, when it is another plant than usual.
    makes: Callable[..., Any] | None = None
    #: After an outage of a server it is the backlog that takes time, and nothing is promised.
    recovers_within: float | None = None
    counted_from: str = "the blow"
    #: The client sends again what it does not know the fate of.
    repeat: bool = False
    #: How many groups of events there are, which come again and again; None: ever new ones.
    groups: int | None = None
    #: How long everything may take to come to rest afterwards, in seconds.
    rest_seconds: float = 90.0
    #: Answers may not take longer; None: nothing is promised.
    answers_within: float | None = 1.0


@contextmanager
def held(pid: int) -> Iterator[None]:
    """Stop a process (SIGSTOP), and let it go on afterwards."""
    stop_process(pid)
    try:
        yield
    finally:
        go_on(pid)


def stop_process(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def go_on(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def kill_server(server: Daemon) -> None:
    """SIGKILL a server, all of it: what is left would answer those who are connected for a moment."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(server.pid)
        for process in (parent, *parent.children()):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    until(lambda: server.exit_status() is not None)


def stop_server(server: Daemon) -> None:
    """Stop it in order."""
    server.stop()


def percentile(ordered: list[float], share: float) -> float | None:
    """The value that so large a share of an ordered list is not above; None of an empty one."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None

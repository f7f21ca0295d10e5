"""Processes of `eventpulse up` and of other commands, and their output."""

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from support import clusters
from support.waiting import until

COMMAND = [sys.executable, "-P", "-m", "eventpulse"]
SETTINGS = ("REDIS_URL", "DATABASE_URL", "SLACK_WEBHOOK_URL", "LOG_LEVEL", "FORCE_COLOR")


def free_ports(count: int) -> list[int]:
    """Return free ports that no other test of this run uses.

    The ports are below the ephemeral ports, which the system may use for outgoing connections at any time. Each process
    of pytest-xdist has its own range of ports.
    """
    ports = itertools.islice(filter(is_free, _PORTS), count)
    return list(ports)


def is_free(port: int) -> bool:
    """Return whether a server can listen on the port."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _ports() -> Iterator[int]:
    size = 2_000
    first = 12_000 + size * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    start = random.randrange(size)
    return itertools.cycle(first + (start + number) % size for number in range(size))


_PORTS = _ports()


def is_alive(process: psutil.Process) -> bool:
    """Return whether the process runs and is not a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def environ(**settings: str) -> dict[str, str]:
    """Return the environment of this process without the variables in `SETTINGS`, plus console logs and `settings`."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return {**kept, "LOG_FORMAT": "console", **settings}


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `eventpulse` with these arguments and settings until it exits; return the completed process."""
    return subprocess.run([*COMMAND, *arguments], env=environ(**settings), capture_output=True, text=True, timeout=60)


@dataclass
class Running:
    """Process of `eventpulse up`, its settings, and the files to which its output is written."""

    process: subprocess.Popen[bytes]
    settings: dict[str, str]
    out: Path
    err: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['EVENTPULSE_PORT']}/api/v1"

    def printed(self) -> str:
        return self.out.read_text() + self.err.read_text()

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def pid_of(self, unit: str) -> int:
        """Return the process id in the last line of the output that reports the state of the unit."""
        lines = [line for line in self.err.read_text().splitlines() if line.startswith(unit) and "(process " in line]
        return int(lines[-1].rpartition("(process ")[2].rstrip(")"))

    def interrupt(self) -> int:
        """Send SIGINT, as Ctrl-C does, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@contextmanager
def up(folder: Path, name: str = "up", **settings: str) -> Iterator[Running]:
    """Run `eventpulse up` with its data in `folder`, and yield the running process when it is ready.

    In a new data folder, `up` finds an empty database cluster. The end of the block stops the process and its children.
    """
    port, live_port = free_ports(2)
    own = {
        "EVENTPULSE_DATA_DIR": str(folder / "data"),
        "EVENTPULSE_PORT": str(port),
        "EVENTPULSE_LIVE_PORT": str(live_port),
        "EVENTPULSE_API_WORKERS": "1",
        "EVENTPULSE_WORKERS": "1",
        **settings,
    }
    if "DATABASE_URL" not in settings:
        clusters.place(Path(own["EVENTPULSE_DATA_DIR"]) / "postgres")
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen([*COMMAND, "up"], env=environ(**own), stdout=stdout, stderr=stderr)
    running = Running(process, own, out, err)
    family: list[psutil.Process] = []

    def ready() -> bool:
        assert process.poll() is None, running.printed()
        return "EventPulse is running" in out.read_text()

    try:
        until(ready, 30)
        family = running.family()
        yield running
    finally:
        if process.poll() is None:
            family += running.family()
            process.terminate()
            process.wait(20)
        for member in family:
            if member.is_running():
                member.kill()

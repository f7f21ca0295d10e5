"""Processes that are started again whenever they end, as an orchestrator would."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

RESTART_SECONDS = 0.5
STOP_SECONDS = 8.0


class Keeper:
    """One command, in a session of its own: what it leaves behind when it ends is killed before it starts again."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.command, self.environ, self.log = command, environ, log
        self.starts = 0
        self._ending = threading.Event()
        self._spawn()
        self._thread = threading.Thread(target=self._keep)
        self._thread.start()

    @property
    def process(self) -> psutil.Process | None:
        """The running one, or None while there is none."""
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self._process.pid)
            if self._process.poll() is None and found.status() != psutil.STATUS_ZOMBIE:
                return found
        return None

    @property
    def started_at(self) -> float:
        """When the running one started, monotonic."""
        return self._started_at

    def terminate(self) -> None:
        """Ask it to stop in order; another follows."""
        self._process.terminate()

    def end(self) -> None:
        """Stop it, and start no other: in order if it can, else by force."""
        self._ending.set()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGCONT)
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self._kill_session()
        self._thread.join()
        self._kill_session()

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._started_at = time.monotonic()
        self.starts += 1

    def _keep(self) -> None:
        while True:
            self._process.wait()
            self._kill_session()
            if self._ending.wait(RESTART_SECONDS):
                return
            self._spawn()

    def _kill_session(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def running(keepers: Iterable[Keeper]) -> list[psutil.Process]:
    """The processes that we started and that run, oldest first."""
    found = [(keeper.started_at, process) for keeper in keepers if (process := keeper.process)]
    return [process for _, process in sorted(found, key=lambda pair: pair[0])]

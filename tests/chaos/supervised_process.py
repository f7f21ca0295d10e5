"""Processes that are restarted when they end, as by an orchestrator in production."""

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


class SupervisedProcess:
    """Process in its own session, restarted after it ends. A restart first kills the other processes of the session."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.command, self.environ, self.log = command, environ, log
        self.starts = 0
        self._stopping = threading.Event()
        self._spawn()
        self._thread = threading.Thread(target=self._supervise)
        self._thread.start()

    @property
    def process(self) -> psutil.Process | None:
        """Running process, or None between the end of a process and the next start."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self._process.pid)
            if self._process.poll() is None and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    @property
    def started_at(self) -> float:
        """Start time of the running process (monotonic)."""
        return self._started_at

    def terminate(self) -> None:
        """Send SIGTERM to the process, which is restarted when it has ended."""
        self._process.terminate()

    def stop(self) -> None:
        """Stop the process without a restart: with SIGTERM, and with SIGKILL after `STOP_SECONDS`."""
        self._stopping.set()
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

    def _supervise(self) -> None:
        while True:
            self._process.wait()
            self._kill_session()
            if self._stopping.wait(RESTART_SECONDS):
                return
            self._spawn()

    def _kill_session(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def running(processes: Iterable[SupervisedProcess]) -> list[psutil.Process]:
    """Return the processes that are running, oldest first."""
    running_ones = [(supervised.started_at, process) for supervised in processes if (process := supervised.process)]
    return [process for _, process in sorted(running_ones, key=lambda pair: pair[0])]

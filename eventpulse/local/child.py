"""Child processes of the supervisor, each in its own session. They stop if the supervisor is killed."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TextIO

from eventpulse.local import process_table

LAST_LINES_SECONDS = 0.5
PR_SET_PDEATHSIG = 1  # constant of <sys/prctl.h>
PARENT_OPTION = "--parent"

#: Function that takes sys.stdout or sys.stderr, and a line for that stream.
Sink = Callable[[TextIO, str], None]


@dataclass(eq=False)
class Child:
    """Process of a command. Each line of its output goes to `sink`, with sys.stdout or sys.stderr as the stream."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    sink: Sink
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _readers: list[threading.Thread] = field(default_factory=list, repr=False)

    @property
    def pid(self) -> int:
        return 0 if self._process is None else self._process.pid

    def spawn(self) -> None:
        self._process = subprocess.Popen(
            self.command,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that Ctrl-C signals only the supervisor, and `kill` ends the group
        )
        self._readers = [
            threading.Thread(target=self._pass_on, args=(pipe, stream), daemon=True)
            for pipe, stream in ((self._process.stdout, sys.stdout), (self._process.stderr, sys.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def exit_status(self) -> int | None:
        """Return None while the process runs, then its exit status; 0 if it was not started."""
        return 0 if self._process is None else self._process.poll()

    def terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """Kill the process group, which includes the workers of gunicorn, and pass on the last output."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        for reader in self._readers:
            reader.join(LAST_LINES_SECONDS)

    def _pass_on(self, pipe: IO[bytes] | None, stream: TextIO) -> None:
        assert pipe is not None
        with pipe:
            for line in pipe:
                self.sink(stream, line.decode(errors="replace").rstrip("\n"))


def die_with_parent(parent: int) -> None:
    """Make the kernel send SIGTERM to this process when the process `parent` exits (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the parent exited before this call
            os.kill(os.getpid(), signal.SIGTERM)


def orphans() -> list[int]:
    """Return the ids of processes started with `--parent` that are stopping because their supervisor has exited."""
    return [pid for pid in process_table.pids() if _is_orphan(process_table.arguments(pid))]


def _is_orphan(command: list[str]) -> bool:
    if "eventpulse" not in command or PARENT_OPTION not in command:
        return False
    parent = command[command.index(PARENT_OPTION) + 1 :][:1]
    return bool(parent) and parent[0].isdigit() and not process_table.arguments(int(parent[0]))

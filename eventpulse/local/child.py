"""A process of ours under a supervisor: started in its own session, its lines passed on, gone when it should be."""

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

LAST_LINES_SECONDS = 0.5
PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>

#: Takes the stream that a line belongs on, and the line.
Sink = Callable[[TextIO, str], None]


@dataclass(eq=False)
class Child:
    """A command that writes lines; `sink` gets each with the stream of ours that it belongs on."""

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
            start_new_session=True,  # Ctrl-C is for the supervisor alone, and killing the session spares no grandchild
        )
        self._readers = [
            threading.Thread(target=self._pass_on, args=(pipe, stream), daemon=True)
            for pipe, stream in ((self._process.stdout, sys.stdout), (self._process.stderr, sys.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def exit_status(self) -> int | None:
        return 0 if self._process is None else self._process.poll()

    def terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End the whole session: gunicorn's workers would outlive their killed parent. Its last lines are passed on."""
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
    """Have the kernel end this process in order when its parent is killed (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it was killed before we asked
            os.kill(os.getpid(), signal.SIGTERM)

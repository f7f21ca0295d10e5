"""A server process that may outlive us: found again while it answers, started when it does not."""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventpulse.errors import UserError

START_SECONDS = 60  # PostgreSQL may have to replay its log after a crash
ATTEMPTS = 3  # what a killed server leaves behind (a socket, shared memory) can outlive it for a moment
POLL_SECONDS = 0.02


class EmbeddedServerError(UserError):
    """An embedded server cannot be started; the message says why and what to do."""


@dataclass(eq=False)
class Daemon:
    """One server: how to reach it, start it, and stop it in order.

    `identify` returns the process id of the server that answers at `url`, or None. `polite` makes
    it finish and leave, `blunt` makes it leave at once without losing what it confirmed.
    """

    name: str
    url: str
    command: Sequence[str | Path]
    log: Path
    identify: Callable[[], int | None]
    polite: signal.Signals
    blunt: signal.Signals
    user: pwd.struct_passwd | None = None
    pid: int = 0
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def find(self) -> bool:
        """Whether the server runs already; from now on it is ours to watch and to stop."""
        pid = self.identify()
        if pid is not None:
            self.pid = pid
        return pid is not None

    def start(self) -> None:
        """Find the server or start it, and wait until it answers. Raises `EmbeddedServerError`."""
        deadline = time.monotonic() + START_SECONDS
        attempts = 0
        while not self.find():
            if self.exit_status() is not None:
                if attempts == ATTEMPTS:
                    raise EmbeddedServerError(f"the embedded {self.name} does not start: {self.last_log_line()}")
                attempts += 1
                self.spawn()
            if time.monotonic() > deadline:
                self.stop(grace_seconds=0)
                raise EmbeddedServerError(f"the embedded {self.name} does not answer: {self.last_log_line()}")
            time.sleep(POLL_SECONDS)

    def spawn(self) -> None:
        """Start the process without waiting for it to answer."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command,
                cwd="/",  # as another user it may not be allowed into our own
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the supervisor alone
                umask=0o077,
                **as_user(self.user),
            )
        self.pid = self._child.pid

    def exit_status(self) -> int | None:
        """None while the process lives; that of a process found again is not known, and 0 stands for it."""
        if self._child is not None and self._child.pid == self.pid:
            return self._child.poll()
        return None if self.pid and _lives(self.pid) else 0

    def terminate(self) -> None:
        self._signal(self.polite)

    def kill(self) -> None:
        self._signal(self.blunt)

    def stop(self, grace_seconds: float = 10) -> None:
        """Stop the server in order; bluntly once the grace is over. Does nothing to a stopped one."""
        self.terminate()
        if not self._gone_within(grace_seconds):
            self.kill()
            if not self._gone_within(2):
                self._signal(signal.SIGKILL)
                self._gone_within(2)

    def last_log_line(self) -> str:
        """The last line that the server logged, and where the rest is."""
        try:
            lines = self.log.read_text(errors="replace").split("\n")
        except OSError:
            lines = []
        said = [line.strip() for line in lines if line.strip()]
        return f"{said[-1] if said else 'it left no word'} (its log is {self.log})"

    def _signal(self, number: signal.Signals) -> None:
        if self.exit_status() is None:
            os.kill(self.pid, number)

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.exit_status() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True


def as_user(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """The options that make `subprocess` run a command as another user and nothing of root's; None: as ourselves."""
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except OSError:  # no /proc here
        return True
    return state != "Z"  # it is dead, though its new parent (a container's first process, say) never asks for it

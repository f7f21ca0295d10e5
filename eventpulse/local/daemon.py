"""Process of an embedded server: start, unless the server is already running, and orderly stop."""

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eventpulse.backoff import backoff_seconds
from eventpulse.errors import Unreachable, UserError
from eventpulse.local import process_table, server_log

START_SECONDS = 60.0  # maximum time to wait for a response, in addition to the time for loading the data
MAX_ATTEMPTS = 5
POLL_SECONDS = 0.02


class EmbeddedServerError(UserError):
    """Raised when an embedded server cannot be started. The message contains the reason and the remedy."""


class ServerStartingError(Unreachable):
    """Raised when a server is still loading or recovering its data."""


@dataclass(eq=False)
class Daemon:
    """Embedded server with its data in the folder `data`, which the caller locks before `start`.

    `identify` returns the process id of the server that responds at `url`, or None. It can raise `ServerStartingError`.
    `lock_files` are the files in which PostgreSQL stores its process id. `stop_signal` requests an orderly stop;
    `kill_signal` stops the server immediately, without losing confirmed writes.
    """

    name: str
    url: str
    data: Path
    command: Sequence[str | Path]
    log: Path
    identify: Callable[[], int | None]
    stop_signal: signal.Signals
    kill_signal: signal.Signals
    lock_files: Sequence[Path] = ()
    user: pwd.struct_passwd | None = None
    pid: int = 0
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def _program(self) -> str:
        return Path(self.command[0]).name

    def find(self) -> bool:
        """Return whether the server is running; if so, control it with this object. Raises `ServerStartingError`."""
        pid = self.identify()
        if pid is not None:
            self.pid = pid
        return pid is not None

    def start(self) -> None:
        """Find the server or start it, and wait until it responds. Raises `EmbeddedServerError`.

        Waits for processes of an earlier start that are still starting or stopping, because two servers must never use
        one folder. Recovery after a crash has no time limit.
        """
        deadline = time.monotonic() + START_SECONDS
        attempts = 0
        while True:
            try:
                if self.find():
                    return
            except ServerStartingError:
                deadline = time.monotonic() + START_SECONDS
            if self.exit_status() is not None and not self._leftovers():
                if attempts == MAX_ATTEMPTS:
                    raise EmbeddedServerError(f"the embedded {self.name} does not start: {self.last_log_line()}")
                if attempts:
                    time.sleep(backoff_seconds(attempts, 0.2, 1.0))
                attempts += 1
                self.spawn()
            if time.monotonic() > deadline:
                self._give_up()
            time.sleep(POLL_SECONDS)

    def spawn(self) -> None:
        """Start the process without waiting until the server responds."""
        self._remove_stale_lock_files()
        with server_log.open_for_append(self.log) as log:
            self._child = subprocess.Popen(
                self.command,
                cwd=self.data,  # entered before the change to `user`, which may have no access to the folders above
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C sends SIGINT to the supervisor only
                umask=0o077,
                **as_user(self.user),
            )
        self.pid = self._child.pid

    def exit_status(self) -> int | None:
        """Return None while the process runs, then its exit status; 0 if it was not a child of this process."""
        if self._child is not None and self._child.pid == self.pid:
            return self._child.poll()
        is_running = bool(self.pid) and process_table.is_server(self.pid, self.data, self._program)
        return None if is_running else 0

    def terminate(self) -> None:
        self._signal(self.stop_signal)

    def kill(self) -> None:
        self._signal(self.kill_signal)

    def stop(self, grace_seconds: float = 10) -> None:
        """Stop the server: send `kill_signal` after `grace_seconds`, and SIGKILL two seconds later.

        Do nothing if the server has already stopped.
        """
        self.terminate()
        if not self._exits_within(grace_seconds):
            self.kill()
            if not self._exits_within(2):
                self._signal(signal.SIGKILL)
                self._exits_within(2)

    def last_log_line(self) -> str:
        """Return the last line of the server's log, and the path of the log."""
        try:
            lines = [line.strip() for line in self.log.read_text(errors="replace").split("\n")]
        except OSError:
            lines = []
        written = [line for line in lines if line]
        return f"{written[-1] if written else 'no log output'} (log file: {self.log})"

    def _leftovers(self) -> list[int]:
        return process_table.servers_in(self.data, self._program)

    def _remove_stale_lock_files(self) -> None:
        """Remove lock files with the id of a zombie or of an unrelated process.

        With such a file, PostgreSQL would not start, because it assumes that any process with this id is the old
        server. Without the file, PostgreSQL still checks whether another server uses the shared memory of this data.
        """
        if process_table.PROC.is_dir() and not self._leftovers():
            for path in self.lock_files:
                path.unlink(missing_ok=True)

    def _give_up(self) -> None:
        if self._child is None:
            pids = ", ".join(map(str, self._leftovers()))
            raise EmbeddedServerError(
                f"an earlier {self.name} still uses {self.data} and does not respond: stop process {pids}"
            )
        self.stop(grace_seconds=0)
        raise EmbeddedServerError(f"the embedded {self.name} does not respond: {self.last_log_line()}")

    def _signal(self, number: signal.Signals) -> None:
        if self.exit_status() is None:
            os.kill(self.pid, number)

    def _exits_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.exit_status() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True


def as_user(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """Return the `subprocess` options that run a command as `user` without root's groups; no options for None."""
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

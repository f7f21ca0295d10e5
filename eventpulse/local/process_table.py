"""Processes of this machine as Linux shows them in /proc; on other systems nothing is known about them."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")
ZOMBIE = "Z"


def is_running(pid: int) -> bool:
    """Return whether the process exists and is no zombie.

    A zombie has exited, but its parent has not reaped it. In a container whose first process never reaps, it stays.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists and belongs to another user
    return _state(pid) != ZOMBIE


def processes_in(folder: Path, program: str) -> list[int]:
    """Return the running processes of `program` whose working directory is `folder`.

    Both embedded servers change into their data folder. A process that merely got the id of an old server is not
    returned, nor is a zombie: its working directory is gone.
    """
    return [pid for pid in _pids() if _name(pid) == program and _working_directory(pid) == folder.resolve()]


def _pids() -> Iterator[int]:
    if PROC.is_dir():
        yield from (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _name(pid: int) -> str | None:
    try:
        return (PROC / str(pid) / "comm").read_text().rstrip("\n")
    except OSError:
        return None


def _working_directory(pid: int) -> Path | None:
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:  # it exited, or belongs to another user
        return None


def _state(pid: int) -> str | None:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None

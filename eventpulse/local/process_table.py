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

    Both embedded servers change into their data folder. A process that was given the id of an old server is not
    returned, and neither is a zombie: it has no working directory.
    """
    return [pid for pid in _pids() if _name(pid) == program and _is_in(pid, folder)]


def _pids() -> Iterator[int]:
    if PROC.is_dir():
        yield from (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _name(pid: int) -> str | None:
    try:
        return (PROC / str(pid) / "comm").read_text().rstrip("\n")
    except OSError:
        return None


def _is_in(pid: int, folder: Path) -> bool:
    try:
        return (PROC / str(pid) / "cwd").readlink() == folder.resolve()
    except PermissionError:  # of a process of another user, root without CAP_SYS_PTRACE may read the arguments only
        return str(folder) in _arguments(pid)
    except OSError:  # it exited
        return False


def _arguments(pid: int) -> list[str]:
    try:
        return os.fsdecode((PROC / str(pid) / "cmdline").read_bytes()).split("\0")
    except OSError:
        return []


def _state(pid: int) -> str | None:
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None

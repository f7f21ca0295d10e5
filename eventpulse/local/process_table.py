"""Processes of this machine as Linux shows them in /proc; other systems only show whether a process exists."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def pids() -> Iterator[int]:
    """Yield the ids of all processes; none without /proc."""
    if PROC.is_dir():
        yield from (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def arguments(pid: int) -> list[str]:
    """Return the command line of a process; empty if it has exited, as a zombie has."""
    try:
        return os.fsdecode((PROC / str(pid) / "cmdline").read_bytes()).split("\0")[:-1]
    except OSError:
        return []


def servers_in(folder: Path, program: str) -> list[int]:
    """Return the running processes of `program` whose working directory is `folder`; none without /proc."""
    return [pid for pid in pids() if is_server(pid, folder, program)]


def is_server(pid: int, folder: Path, program: str) -> bool:
    """Return whether the process runs `program` with the working directory `folder`; without /proc, whether it exists.

    Both embedded servers change into their data folder. The answer is no for a process that was given the id of an old
    server, and for a zombie: that has no working directory. In a container whose first process does not reap its
    children, zombies stay.
    """
    if not PROC.is_dir():
        return _exists(pid)
    return _name(pid) == program and _is_in(pid, folder)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True


def _name(pid: int) -> str | None:
    try:
        return (PROC / str(pid) / "comm").read_text().rstrip("\n")
    except OSError:
        return None


def _is_in(pid: int, folder: Path) -> bool:
    try:
        return (PROC / str(pid) / "cwd").readlink() == folder.resolve()
    except PermissionError:  # of a process of another user, root without CAP_SYS_PTRACE may read the arguments only
        return str(folder) in arguments(pid)
    except OSError:  # it exited
        return False

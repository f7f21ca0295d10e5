"""Processes of this machine, read from /proc. Without /proc, only the existence of a process can be checked."""

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def pids() -> Iterator[int]:
    """Yield the ids of all processes; no ids if there is no /proc."""
    if PROC.is_dir():
        yield from (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def arguments(pid: int) -> list[str]:
    """Return the arguments in the command line of a process; an empty list if it has exited or is a zombie."""
    try:
        return os.fsdecode((PROC / str(pid) / "cmdline").read_bytes()).split("\0")[:-1]
    except OSError:
        return []


def servers_in(folder: Path, program: str) -> list[int]:
    """Return the ids of processes that run `program` with the working directory `folder`; no ids without /proc."""
    return [pid for pid in pids() if is_server(pid, folder, program)]


def is_server(pid: int, folder: Path, program: str) -> bool:
    """Return whether the process runs `program` in `folder`; without /proc, whether the process exists.

    The working directory of an embedded server is its data folder. Return False for an unrelated process with the
    id of an old server, and for a zombie, which has no working directory. Zombies remain in a container whose first
    process does not reap its children.
    """
    if not PROC.is_dir():
        return _exists(pid)
    return _name(pid) == program and _is_in(pid, folder)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process belongs to another user
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
    except PermissionError:  # root without CAP_SYS_PTRACE can read only the arguments of a process of another user
        return any(argument == str(folder) or argument.endswith(f"={folder}") for argument in arguments(pid))
    except OSError:  # the process has exited
        return False

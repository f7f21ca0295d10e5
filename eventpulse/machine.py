"""Number of processors and amount of memory that this process may use, including the limits of its cgroups.

https://docs.kernel.org/admin-guide/cgroup-v2.html (`cpu.max`, `memory.max`) and
https://docs.kernel.org/admin-guide/cgroup-v1/ (`cpu.cfs_quota_us`, `memory.limit_in_bytes`).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

UNLIMITED_BYTES = 1 << 60  # minimum value that means no limit; cgroup v1 reports a number near 2**63


def cpu_count() -> int:
    """Return the number of processors that this process can use, at least 1.

    This is the minimum of the CPU affinity (if the system has none, the number of processors) and the CPU quotas of
    the cgroups. Quotas are rounded up.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(ceil(quota) for quota in Cgroups().cpu_quotas())]))


def memory_bytes() -> int:
    """Return the memory that this process may use, in bytes: the minimum of the machine's memory and cgroup limits."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *Cgroups().memory_limits()])


@dataclass(frozen=True, slots=True)
class Cgroups:
    """Control groups of one process. `proc`: folder of the process in /proc. `root`: prefix of every mount point."""

    proc: Path = Path("/proc/self")
    root: Path = Path("/")

    def cpu_quotas(self) -> Iterator[float]:
        """Yield the CPU quotas as numbers of processors, from the group of the process up to the root."""
        for folder in self._folders("cpu"):
            quota, period = _words(folder / "cpu.max")
            if quota is None:
                quota, period = _word(folder / "cpu.cfs_quota_us"), _word(folder / "cpu.cfs_period_us")
            if (limit := _positive(quota)) and (length := _positive(period)):
                yield limit / length

    def memory_limits(self) -> Iterator[int]:
        """Yield the memory limits in bytes, from the group of the process up to the root."""
        for folder in self._folders("memory"):
            for name in ("memory.max", "memory.limit_in_bytes"):
                limit = _positive(_word(folder / name))
                if limit is not None and limit < UNLIMITED_BYTES:
                    yield limit

    def _folders(self, controller: str) -> Iterator[Path]:
        """Yield the folders of the groups that can limit `controller`: the group of the process, then each parent."""
        for mount_point, path in self._memberships(controller):
            group = mount_point / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount_point))

    def _memberships(self, controller: str) -> Iterator[tuple[Path, str]]:
        """Yield the mount point of each hierarchy that can limit `controller`, and the group of the process.

        The group is a path relative to the mount point.

        In the file `cgroup`, version 2 has the line `0::/path`, and version 1 has lines such as `4:memory:/path`. A
        machine may use both versions.
        """
        own = {}
        for line in _lines(self.proc / "cgroup"):
            _, controllers, path = line.split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
        for mounted, mount_point, kind, options in self._mounts():
            name = "" if kind == "cgroup2" else controller
            if name in own and (not name or name in options):
                yield mount_point, _below(own[name], mounted)

    def _mounts(self) -> Iterator[tuple[str, Path, str, list[str]]]:
        """Yield the mounted root, mount point, type and options of each cgroup file system (see proc(5))."""
        for line in _lines(self.proc / "mountinfo"):
            fields = line.split()
            kind = fields[fields.index("-") + 1]
            if kind in ("cgroup", "cgroup2"):
                yield fields[3], self.root / fields[4].lstrip("/"), kind, fields[-1].split(",")


def _below(path: str, mounted: str) -> str:
    """Return the path of a group relative to the mounted group, or `/` if the group is not below the mounted group.

    In a container, the mounted group is often the group itself.
    """
    if mounted == "/" or not path.startswith(mounted):
        return path if mounted == "/" else "/"
    return path[len(mounted) :]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # the system is not Linux, or the group has no such limit
        return []


def _words(path: Path) -> tuple[str | None, str | None]:
    words = " ".join(_lines(path)).split()
    return (words[0], words[1]) if len(words) > 1 else (None, None)


def _word(path: Path) -> str | None:
    return next(iter(_lines(path)), None)


def _positive(word: str | None) -> int | None:
    """Return the positive integer in `word`; None for any other word, such as `max` and `-1`, which mean no limit."""
    return int(word) if word and word.strip().isdigit() and int(word) > 0 else None

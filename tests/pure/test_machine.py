"""Tests of the processor and memory limits of cgroups, in versions 1 and 2."""

import os
from pathlib import Path

import pytest

from eventpulse import machine
from eventpulse.machine import Cgroups

V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1_MEMORY = "33 25 0:30 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"
V1_CPU = "34 25 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
OTHER = "21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw"


def cgroups(root: Path, membership: str, mounts: list[str], limits: dict[str, str]) -> Cgroups:
    """Write the files that describe the cgroups of a process, and return the cgroups. The files are below `root`.

    `membership` is the text of /proc/self/cgroup, `mounts` are lines of /proc/self/mountinfo, and `limits` maps paths
    below /sys/fs/cgroup to the texts of the files.
    """
    proc = root / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(membership)
    (proc / "mountinfo").write_text("\n".join([OTHER, *mounts]) + "\n")
    for name, text in limits.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return Cgroups(proc, root)


def test_version_2_has_the_limits_of_the_group_and_of_its_parents(tmp_path: Path) -> None:
    limits = {
        "app.slice/cpu.max": "150000 100000",
        "app.slice/memory.max": "2000000000",
        "app.slice/pulse.service/cpu.max": "max 100000",
        "app.slice/pulse.service/memory.max": "1000000000",
        "other.slice/memory.max": "1",
    }
    groups = cgroups(tmp_path, "0::/app.slice/pulse.service\n", [V2], limits)
    assert list(groups.cpu_quotas()) == [1.5]
    assert list(groups.memory_limits()) == [1_000_000_000, 2_000_000_000]


def test_version_1_has_the_limits_of_each_hierarchy(tmp_path: Path) -> None:
    limits = {
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/docker/abc/memory.limit_in_bytes": "536870912",
        "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "50000",
        "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/docker/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
    }
    membership = "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n"
    groups = cgroups(tmp_path, membership, [V1_MEMORY, V1_CPU], limits)
    assert list(groups.cpu_quotas()) == [0.5]
    assert list(groups.memory_limits()) == [536_870_912]


def test_both_versions_are_read_together(tmp_path: Path) -> None:
    limits = {"unified/a/cpu.max": "200000 100000", "memory/b/memory.limit_in_bytes": "1000000"}
    unified = V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    groups = cgroups(tmp_path, "4:memory:/b\n0::/a\n", [V1_MEMORY, unified], limits)
    assert list(groups.cpu_quotas()) == [2.0]
    assert list(groups.memory_limits()) == [1_000_000]


def test_a_container_whose_own_group_is_mounted_is_limited_by_it(tmp_path: Path) -> None:
    mounted = V1_MEMORY.replace(" / /sys", " /docker/abc /sys")
    limits = {"memory/memory.limit_in_bytes": "1000000", "memory/pulse/memory.limit_in_bytes": "2000000"}
    inside = cgroups(tmp_path / "inside", "4:memory:/docker/abc/pulse\n", [mounted], limits)
    outside = cgroups(tmp_path / "outside", "4:memory:/elsewhere\n", [mounted], limits)
    assert list(inside.memory_limits()) == [2_000_000, 1_000_000]
    assert list(outside.memory_limits()) == [1_000_000]


def test_without_cgroups_nothing_is_limited(tmp_path: Path) -> None:
    groups = Cgroups(tmp_path / "proc", tmp_path)
    assert list(groups.cpu_quotas()) == []
    assert list(groups.memory_limits()) == []


def test_the_smallest_limit_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)
    monkeypatch.setattr(Cgroups, "cpu_quotas", lambda _self: iter([2.5, 4.0]))
    monkeypatch.setattr(Cgroups, "memory_limits", lambda _self: iter([3_000, 2_000]))
    assert machine.cpu_count() == 3
    assert machine.memory_bytes() == 2_000


def test_a_fraction_of_a_processor_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cgroups, "cpu_quotas", lambda _self: iter([0.1]))
    assert machine.cpu_count() == 1

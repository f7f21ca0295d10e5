"""Measurement of the accepted events that a power cut loses.

    cd tests && ../.venv/bin/python -m chaos.power_cut [--cuts 20] [--rate 15000] [--json FILE] [--folder /var/tmp]

Redis stores its data on an ext4 file system in a file of `--folder`, mounted with a loop device. At a random time,
while `actors.pipeline.ingest` queues events, the file system is shut down (EXT4_IOC_SHUTDOWN without a journal flush):
bytes that the kernel has not written to the device are lost, as in a power cut. Then Redis is killed, the file system
is mounted again and Redis is restarted. An event is lost if it was confirmed before the cut and is missing after the
restart. The volatile write cache of a disk is not simulated. Needs Linux, root, loop devices and mkfs.ext4.
"""

import argparse
import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis
from chaos.context import percentile
from chaos.eventpulse_system import set_fsync
from chaos.server_state import ids_in
from support.pipeline_factory import event
from support.waiting import until

from actors import runtime
from actors.broker import broker
from actors.pipeline import ingest
from actors.transport.errors import QueueUnavailable
from eventpulse import logs
from eventpulse.local import embedded
from eventpulse.settings import ConnectedSettings

MODES = ("everysec", "always")
IMAGE_BYTES = 512 << 20
EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32) in the ext4 header of Linux
NO_LOG_FLUSH = struct.pack("I", 2)
REQUEST_EVENTS = 100
WRITERS = 4
#: Minimum and maximum time from the first event to the power cut, in seconds; `everysec` syncs every second.
EARLIEST_CUT, LATEST_CUT = 2.0, 4.0


class Unsupported(Exception):
    """Raised when this machine cannot simulate power cuts; the message gives the reason."""


@dataclass(frozen=True)
class Cut:
    """Result of one power cut; `lost_seconds` is the time from the confirmation of the oldest lost event to the cut."""

    mode: str
    confirmed: int
    lost: int
    lost_seconds: float
    per_second: float


@dataclass
class Writers:
    """Threads that enqueue `rate` events per second until they are stopped, `REQUEST_EVENTS` at a time."""

    rate: float
    #: Confirmation time (monotonic) and event ids of each confirmed request.
    confirmed: list[tuple[float, list[str]]] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._started = time.monotonic()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        due = self._started + number * REQUEST_EVENTS / self.rate
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            events = [event() for _ in range(REQUEST_EVENTS)]
            with suppress(QueueUnavailable):
                ingest.accept(events, None)
                self.confirmed.append((time.monotonic(), [each for one in events for each in ids_in(one)]))
            due += WRITERS * REQUEST_EVENTS / self.rate


@contextmanager
def disk(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the path of an image of an empty ext4 file system, and the path of a mount point. Raises `Unsupported`."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Unsupported("mounting and shutting down a file system requires root on Linux")
    if not shutil.which("mkfs.ext4"):
        raise Unsupported("mkfs.ext4 is not installed (package e2fsprogs)")
    with tempfile.TemporaryDirectory(prefix="chaos-power-", dir=folder) as temporary:
        image, mount_point = Path(temporary) / "image", Path(temporary) / "disk"
        mount_point.mkdir()
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        try:
            yield image, mount_point
        finally:
            if mount_point.is_mount():
                _run("umount", "--lazy", str(mount_point))


def cut_once(mode: str, rate: float, folder: Path, cut_after: float) -> Cut:
    """Enqueue events, simulate a power cut after `cut_after` seconds, and return the result. Raises `Unsupported`."""
    with disk(folder) as (image, mount_point), ExitStack() as undo:
        _run("mount", "-o", "loop", str(image), str(mount_point))
        server = embedded.start_redis(mount_point / "redis")
        undo.callback(server.stop)
        set_fsync(server, mode)
        runtime.setup(
            ConnectedSettings(redis_url=server.url, database_url="postgresql://nowhere/none", max_backlog=10**9)
        )
        undo.callback(lambda: broker.client.close())
        os.sync()
        writers = Writers(rate)
        undo.callback(writers.stop)
        writers.start()
        time.sleep(cut_after)
        at = shut_down(mount_point)
        writers.stop()
        server.stop(grace_seconds=0)
        broker.client.close()
        _run("umount", str(mount_point))
        _run("mount", "-o", "loop", str(image), str(mount_point))
        server.start()
        stored = stored_ids(server.url)
    confirmed = [(when, ids) for when, ids in writers.confirmed if when < at]
    lost = [(when, sum(one not in stored for one in ids)) for when, ids in confirmed]
    count = sum(len(ids) for _, ids in confirmed)
    oldest = min((when for when, missing in lost if missing), default=at)
    return Cut(mode, count, sum(missing for _, missing in lost), at - oldest, count / cut_after)


def shut_down(mount_point: Path) -> float:
    """Shut down the file system without a flush; return the monotonic time of the call. Raises `Unsupported`."""
    handle = os.open(mount_point, os.O_RDONLY)
    try:
        at = time.monotonic()
        fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
    except OSError as error:
        raise Unsupported(f"this kernel cannot shut down an ext4 file system ({error.strerror})") from error
    finally:
        os.close(handle)
    return at


def stored_ids(url: str) -> set[str]:
    """Wait until the Redis at this URL has loaded its data, and return the ids of the events in the queue `persist`."""
    with redis.Redis.from_url(url) as client:
        until(lambda: not client.info("persistence")["loading"], 30)
        return {each for data in client.hvals(f"{broker.namespace}:persist.msgs") for each in ids_in(data)}


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        raise Unsupported(f"{' '.join(command)}: {ran.stderr.strip()}")


def summary(cuts: list[Cut]) -> dict[str, Any]:
    """Return the number of cuts, the mean rate in events/s, percentiles of `lost`, and the maximum `lost_seconds`."""
    lost = sorted(float(each.lost) for each in cuts)
    return {
        "cuts": len(cuts),
        "per_second": round(sum(each.per_second for each in cuts) / len(cuts)),
        "lost": {"p50": percentile(lost, 0.5), "p95": percentile(lost, 0.95), "max": lost[-1]},
        "lost_seconds": max(each.lost_seconds for each in cuts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--rate", type=float, default=15_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    logs.configure("critical", "console")
    rng = random.Random(chosen.seed)
    summaries: dict[str, Any] = {}
    print(f"{'appendfsync':12} {'events/s':>9} {'cuts':>5} {'lost p50':>9} {'p95':>7} {'max':>7} {'oldest lost':>12}")
    for mode in MODES:
        try:
            cuts = [
                cut_once(mode, chosen.rate, chosen.folder, rng.uniform(EARLIEST_CUT, LATEST_CUT))
                for _ in range(chosen.cuts)
            ]
        except Unsupported as reason:
            sys.exit(f"cannot measure on this machine: {reason}")
        result = summary(cuts)
        summaries[mode] = result | {"each": [asdict(each) for each in cuts]}
        lost = result["lost"]
        print(
            f"{mode:12} {result['per_second']:9,} {result['cuts']:5} {lost['p50']:9,.0f} {lost['p95']:7,.0f}"
            f" {lost['max']:7,.0f} {result['lost_seconds']:10.2f} s"
        )
    if chosen.json:
        chosen.json.write_text(json.dumps(summaries, indent=2) + "\n")


if __name__ == "__main__":
    main()

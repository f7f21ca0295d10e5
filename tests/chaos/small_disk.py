"""A disk that is soon full: a folder of a fixed size, and a PostgreSQL that keeps its data or its log on it.

A full log (`pg_wal`) is fatal to PostgreSQL: it PANICs, fails to recover for want of room, and ends with exit code 1;
it must be started again once there is room. A full data folder fails the statement that needs room, with `could not
extend file` (SQLSTATE 53100), and the server lives on.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from eventpulse.local import embedded, postgres
from eventpulse.local.daemon import Daemon

BALLAST = "ballast"
CHUNK = bytes(1 << 16)


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own at `path`."""

    path: Path

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free

    def fill(self, leave_bytes: int = 0) -> None:
        """Lay ballast until no more than so much is free, whatever others free meanwhile."""
        with (self.path / BALLAST).open("ab", buffering=0) as ballast:
            while (free := self.free_bytes() - leave_bytes) > 0:
                try:
                    ballast.write(CHUNK[:free])
                except OSError:  # someone was faster
                    return

    def clear(self) -> None:
        """Throw the ballast out."""
        (self.path / BALLAST).unlink(missing_ok=True)

    def start_postgres_with_its_log_here(self, data: Path) -> Daemon:
        """As `embedded.start_postgres`, but for the folder of its write-ahead log."""
        return _start(data, self.path / "pg_wal")

    def start_postgres_with_its_data_here(self, data: Path) -> Daemon:
        """As `embedded.start_postgres`, with all but the write-ahead log here; that is where the data were to be."""
        return _start(self.path / data.name, data.with_name(f"{data.name}_wal"))


def use_up_log(url: str) -> None:
    """Have PostgreSQL go on to ever new files of its log, on a disk that was filled, until it can make no other."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT pg_logical_emit_message(true, 'battery', 'one more'), pg_switch_wal()")
    except psycopg2.OperationalError:  # it has PANICked
        return
    finally:
        connection.close()


@contextmanager
def small_disk(mebibytes: int) -> Iterator[SmallDisk | None]:
    """A disk of this size; None where we may not mount one. It is gone when the block ends, whoever still uses it."""
    with tempfile.TemporaryDirectory(prefix="battery-disk-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user
        path = Path(folder) / "disk"
        path.mkdir()
        options = f"size={mebibytes}m,mode=0755"
        if os.geteuid() != 0 or not _runs("mount", "-t", "tmpfs", "-o", options, "battery", str(path)):
            yield None
            return
        try:
            yield SmallDisk(path)
        finally:
            if not _runs("umount", str(path)):
                _runs("umount", "--lazy", str(path))


def _start(data: Path, log: Path) -> Daemon:
    """Start a new PostgreSQL whose write-ahead log is elsewhere: made as usual, stopped, moved and started again."""
    embedded.start_postgres(data).stop()
    _move(data / "pg_wal", log, postgres.account())
    return embedded.start_postgres(data)


def _move(folder: Path, to: Path, owner: pwd.struct_passwd | None) -> None:
    shutil.copytree(folder, to)
    shutil.rmtree(folder)
    folder.symlink_to(to)
    if owner is not None:
        for path in (to, *to.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)


def _runs(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False

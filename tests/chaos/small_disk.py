"""Small file system for a PostgreSQL whose data or write-ahead log must run out of space.

A full `pg_wal` is fatal to PostgreSQL: it PANICs, cannot recover without free space and exits with code 1; it must be
restarted when there is space. With a full data folder only the statement that needs space fails (`could not extend
file`, SQLSTATE 53100), and the server keeps running.
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

FILLING = "filling"
CHUNK = bytes(1 << 16)


@dataclass(frozen=True)
class SmallDisk:
    """A separate file system, mounted at `path`."""

    path: Path

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free

    def fill(self, leave_bytes: int = 0) -> None:
        """Write a file until at most `leave_bytes` are free."""
        with (self.path / FILLING).open("ab", buffering=0) as filling:
            while (free := self.free_bytes() - leave_bytes) > 0:
                try:
                    filling.write(CHUNK[:free])
                except OSError:  # another process used the space
                    return

    def clear(self) -> None:
        """Delete the filling."""
        (self.path / FILLING).unlink(missing_ok=True)

    def start_postgres_with_log(self, data: Path) -> Daemon:
        """Start PostgreSQL with its write-ahead log on this disk and its data in `data`."""
        return _start(data, self.path / "pg_wal")

    def start_postgres_with_data(self, data: Path) -> Daemon:
        """Start PostgreSQL with its data on this disk and its write-ahead log beside `data`."""
        return _start(self.path / data.name, data.with_name(f"{data.name}_wal"))


def use_up_log(url: str) -> None:
    """Make PostgreSQL start new files of its write-ahead log until the disk is full."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT pg_logical_emit_message(true, 'chaos', 'filling'), pg_switch_wal()")
    except psycopg2.OperationalError:  # the server has PANICked
        return
    finally:
        connection.close()


@contextmanager
def small_disk(mebibytes: int) -> Iterator[SmallDisk | None]:
    """Mount a tmpfs of this size and unmount it after the block, even if in use; yield None without the permission."""
    with tempfile.TemporaryDirectory(prefix="chaos-disk-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user
        path = Path(folder) / "disk"
        path.mkdir()
        options = f"size={mebibytes}m,mode=0755"
        if os.geteuid() != 0 or not _succeeds("mount", "-t", "tmpfs", "-o", options, "chaos", str(path)):
            yield None
            return
        try:
            yield SmallDisk(path)
        finally:
            if not _succeeds("umount", str(path)):
                _succeeds("umount", "--lazy", str(path))


def _start(data: Path, log: Path) -> Daemon:
    """Start a new PostgreSQL with its write-ahead log in another folder: create it, stop it, move the log, restart."""
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


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False

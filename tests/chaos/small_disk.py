"""Small file system for tests of a PostgreSQL that has no space for its data or its write-ahead log.

If the disk of `pg_wal` is full, PostgreSQL reports a PANIC, cannot recover and exits with code 1; it must be restarted
after space has been freed. If only the disk of the data is full, the statement that needs space fails (`could not
extend file`, SQLSTATE 53100), and the server continues to run.
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
    """Separate file system, mounted at `path`."""

    path: Path

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free

    def fill(self, leave_bytes: int = 0) -> None:
        """Fill the disk with a file until at most `leave_bytes` are free."""
        with (self.path / FILLING).open("ab", buffering=0) as filling:
            while (free := self.free_bytes() - leave_bytes) > 0:
                try:
                    filling.write(CHUNK[:free])
                except OSError:  # another process has used the remaining space
                    return

    def clear(self) -> None:
        """Delete the file that `fill` wrote."""
        (self.path / FILLING).unlink(missing_ok=True)

    def start_postgres_with_log(self, data: Path) -> Daemon:
        """Start PostgreSQL with its write-ahead log on this disk and its data in `data`."""
        return _start(data, self.path / "pg_wal")

    def start_postgres_with_data(self, data: Path) -> Daemon:
        """Start PostgreSQL with its data on this disk and its write-ahead log in a folder next to `data`."""
        return _start(self.path / data.name, data.with_name(f"{data.name}_wal"))


def use_up_log(url: str) -> None:
    """Make PostgreSQL write new files of its write-ahead log until the disk is full and the server has exited."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            while True:
                cursor.execute("SELECT pg_logical_emit_message(true, 'chaos', 'filling'), pg_switch_wal()")
    except psycopg2.OperationalError:  # the server has exited
        return
    finally:
        connection.close()


@contextmanager
def small_disk(mebibytes: int) -> Iterator[SmallDisk | None]:
    """Mount a tmpfs of `mebibytes` MiB and unmount it after the block, even if it is in use.

    Yield None if this process is not permitted to mount file systems.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-disk-") as folder:
        # If this process is root, PostgreSQL runs as another user, which could not enter a private folder.
        Path(folder).chmod(0o755)
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
    """Start a new PostgreSQL with its write-ahead log in the folder `log`."""
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

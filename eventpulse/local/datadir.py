"""Data folder of the embedded servers: its permissions, its lock, and folders for sockets."""

import fcntl
import hashlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from eventpulse.errors import UserError

MAX_SOCKET_PATH_BYTES = 100  # maximum length of a socket path: sun_path has 108 bytes on Linux and 104 on macOS
REMEDY = "set EVENTPULSE_DATA_DIR to a writable folder"

log = structlog.get_logger()


class DataDirError(UserError):
    """Raised when the data folder cannot be used. The message contains the reason and the remedy."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the data folder during the block. Raises `DataDirError` if another process has locked the folder."""
    ensure_private(folder)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DataDirError(
                f"`eventpulse up` (process {lock.read().strip()}) already uses the data folder {folder}: "
                "stop it, or set EVENTPULSE_DATA_DIR to another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def ensure_private(folder: Path) -> None:
    """Create the folder for this user only, or check that an existing folder is writable. Raises `DataDirError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DataDirError(f"the data folder {folder} cannot be created ({error.strerror}); {REMEDY}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataDirError(f"the data folder {folder} is not writable; {REMEDY}")


def make_traversable(folder: Path) -> None:
    """Add the permission o+x to the folders above `folder`; log each change before it is made.

    If the current user is root, PostgreSQL runs as another user, which needs this permission. Raises `DataDirError` if
    `folder` is in a home folder, or if a top-level folder or a folder of another user lacks the permission.
    """
    homes = [Path(pwd.getpwuid(os.geteuid()).pw_dir), Path("/home"), Path("/root")]
    if any(folder.is_relative_to(home) for home in homes if home != Path("/")):
        raise DataDirError(
            f"if root runs EventPulse, the data folder must not be in a home folder ({folder}): PostgreSQL runs as "
            "another user, which needs access; set EVENTPULSE_DATA_DIR to another folder, such as /var/lib/eventpulse"
        )
    closed = [parent for parent in folder.parents if not parent.stat().st_mode & stat.S_IXOTH]
    for parent in closed:
        if parent.stat().st_uid != os.geteuid() or parent.parent == Path("/"):
            raise DataDirError(
                f"PostgreSQL runs as another user, which cannot enter {parent}: "
                f"run `chmod o+x {parent}`, or set EVENTPULSE_DATA_DIR to another folder"
            )
    for parent in closed:
        reason = "PostgreSQL runs as another user, which needs access to this folder"
        log.warning("folder_permission_change", folder=str(parent), added="o+x", reason=reason)
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)


def socket_folder(data: Path, socket: str) -> Path:
    """Return the folder for a server's socket: `data`, or a temporary folder if the socket's path would be too long."""
    if len(os.fsencode(data / socket)) <= MAX_SOCKET_PATH_BYTES:
        return data
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"eventpulse-{os.geteuid()}" / digest


def make_socket_folder(folder: Path) -> None:
    """Create a socket folder. Raises `DataDirError` if the folder cannot be created, or belongs to another user."""
    ensure_private(folder)
    for created in (folder, folder.parent):
        if created.name.startswith("eventpulse-") and created.stat().st_uid != os.geteuid():
            raise DataDirError(
                f"the socket folder {created} belongs to another user; set EVENTPULSE_DATA_DIR to a shorter path, so "
                "that the socket can be in the data folder"
            )

"""Data folder of the embedded servers: its permissions, its lock, and folders for sockets."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventpulse.errors import UserError

MAX_SOCKET_PATH_BYTES = 100  # maximum length of a socket path: sun_path has 108 bytes on Linux and 104 on macOS
REMEDY = "set EVENTPULSE_DATA_DIR to a writable folder"


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


def link_socket_folder(link: Path, data: Path) -> None:
    """Create a link to `data` that is short enough for the path of a socket. Raises the errors of `make_socket_folder`.

    The server itself uses a path relative to `data`, whose length is not limited.
    """
    make_socket_folder(link.parent)
    if not link.is_symlink():
        link.symlink_to(data)

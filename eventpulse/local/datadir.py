"""The folder of the embedded servers: private, ours alone while we run, and with sockets short enough to bind."""

import fcntl
import hashlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventpulse.errors import UserError

SOCKET_PATH_BYTES = 100  # sun_path holds 108 bytes on Linux and 104 on macOS
REMEDY = "set EVENTPULSE_DATA_DIR to one you may write to"


class DataDirError(UserError):
    """The data directory cannot be used; the message says why and what to do."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the data directory for this process; the lock dies with it. Raises `DataDirError`."""
    private(folder)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DataDirError(
                f"`eventpulse up` (process {lock.read().strip()}) already runs on {folder}: "
                "stop it, or set EVENTPULSE_DATA_DIR to another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def private(folder: Path) -> None:
    """Make the folder, or see that we may write to it. Raises `DataDirError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise DataDirError(f"the data directory {folder} cannot be made ({error.strerror}); {REMEDY}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DataDirError(f"the data directory {folder} cannot be written to; {REMEDY}")


def make_traversable(folder: Path) -> None:
    """Let every user pass through, not look into, the folders above `folder`.

    For root, whose PostgreSQL runs as another user. A home is never opened: raises `DataDirError`.
    """
    homes = [Path(pwd.getpwuid(os.geteuid()).pw_dir), Path("/home"), Path("/root")]
    if any(folder.is_relative_to(home) for home in homes if home != Path("/")):
        raise DataDirError(
            f"as root the data cannot be kept in a home folder ({folder}): PostgreSQL runs as another user, who must "
            "reach it; set EVENTPULSE_DATA_DIR to another place, such as /var/lib/eventpulse"
        )
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def socket_folder(data: Path, socket: str) -> Path:
    """Where the server of the folder `data` puts its socket: there, or in the temporary folder if that is too long."""
    if len(os.fsencode(data / socket)) <= SOCKET_PATH_BYTES:
        return data
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"eventpulse-{os.geteuid()}" / digest


def make_socket_folder(folder: Path) -> None:
    """Make a socket folder, in the temporary folder too, where others could have been before us."""
    private(folder)
    for mine in (folder, folder.parent):
        if mine.name.startswith("eventpulse-") and mine.stat().st_uid != os.geteuid():
            raise DataDirError(f"{mine} belongs to someone else; set EVENTPULSE_DATA_DIR to a shorter path")

"""Log file of an embedded server: its permissions and its rotation."""

import os
from pathlib import Path
from typing import BinaryIO

import structlog

MAX_BYTES = 10 * 1024 * 1024
READABLE_BY_OWNER = 0o600  # the log of PostgreSQL may contain statements

log = structlog.get_logger()


def open_for_append(path: Path) -> BinaryIO:
    """Open the log for appending; only its owner can read it, even if the file exists with other permissions."""
    file = open(path, "ab", opener=_open_private)  # noqa: SIM115 - Path.open has no opener
    os.fchmod(file.fileno(), READABLE_BY_OWNER)
    return file


def rotate(path: Path) -> None:
    """Move the log to `<name>.1` if it is larger than `MAX_BYTES`; of a larger log, only its end is kept.

    The content is copied, and the file is emptied. The server appends to its open file, so it continues at the
    beginning, and needs neither a signal nor a process that reads a pipe. A line that is written during the copy may be
    lost. If the copy fails, for example because the disk is full, the file is emptied nevertheless. Errors are logged.
    """
    size = path.stat().st_size if path.exists() else 0
    if size <= MAX_BYTES:
        return
    for step in (_copy_end, _empty):
        try:
            step(path)
        except OSError as error:
            log.warning("server_log_rotation_failed", log_file=str(path), error=str(error))


def _copy_end(path: Path) -> None:
    with path.open("rb") as current, open(path.with_name(f"{path.name}.1"), "wb", opener=_open_private) as old:
        current.seek(-MAX_BYTES, os.SEEK_END)
        old.write(current.read(MAX_BYTES))


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, READABLE_BY_OWNER)

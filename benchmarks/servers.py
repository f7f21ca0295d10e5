"""Temporary Redis and PostgreSQL servers for a benchmark."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg2
import redis

from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon
from models import database, migrations


@dataclass(frozen=True)
class Servers:
    """Running Redis and PostgreSQL, and a connection to PostgreSQL in autocommit mode."""

    redis: Daemon
    postgres: Daemon
    connection: psycopg2.extensions.connection

    @property
    def redis_url(self) -> str:
        return self.redis.url

    @property
    def database_url(self) -> str:
        return self.postgres.url

    def environ(self) -> dict[str, str]:
        """Return the environment for child processes that use these servers."""
        return os.environ | {"REDIS_URL": self.redis_url, "DATABASE_URL": self.database_url}

    def stored(self) -> int:
        """Return the number of rows in `events`."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM events")
            return int(next(cursor)[0])

    def empty(self) -> None:
        """Delete all events and pending evaluations from PostgreSQL, and all data from Redis."""
        with self.connection.cursor() as cursor:
            cursor.execute("TRUNCATE events, pending_evaluations")
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()

    def redis_cpu_seconds(self) -> float:
        """Return the CPU time that Redis has used so far, in seconds."""
        return cpu_seconds(self.redis.pid)

    def postgres_cpu_seconds(self) -> float:
        """Return the CPU time that all processes of PostgreSQL have used so far, in seconds."""
        return cpu_seconds(self.postgres.pid)


@contextmanager
def servers(fsync: str = "always") -> Iterator[Servers]:
    """Start Redis with `appendfsync` set to `fsync`, and PostgreSQL with a migrated database, in a temporary folder.

    The models of this process use this PostgreSQL. At the end, stop both servers and remove the folder.
    """
    with tempfile.TemporaryDirectory(prefix="eventpulse-benchmark-") as folder:
        # PostgreSQL runs as another user when this process is root; that user must be able to enter the folder.
        Path(folder).chmod(0o755)
        redis_server = embedded.start_redis(Path(folder) / "redis")
        try:
            with redis.Redis.from_url(redis_server.url) as client:
                client.config_set("appendfsync", fsync)
            postgres_server = embedded.start_postgres(Path(folder) / "postgres")
            try:
                database.configure(postgres_server.url)
                migrations.up()
                connection = psycopg2.connect(postgres_server.url)
                connection.autocommit = True
                yield Servers(redis_server, postgres_server, connection)
            finally:
                database.database.close_all()
                postgres_server.stop()  # also closes the connection of `Servers`
        finally:
            redis_server.stop()


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process, its children, and the exited children that the process has reaped."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    used = times.user + times.system + times.children_user + times.children_system
    for child in process.children():
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used += times.user + times.system
    return float(used)

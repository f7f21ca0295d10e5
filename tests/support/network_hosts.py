"""Hosts for worker processes, with connections to Redis and PostgreSQL that can be interrupted.

Each host has its own network namespace. If this process may not create namespaces, hosts use the loopback interface.
"""

import os
import random
import secrets
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from psycopg2.extensions import parse_dsn
from redis.connection import parse_url

#: Bytes in the commands of a worker that store events, and in the commands that follow the evaluation of events.
STORES, EVALUATED = b"INSERT INTO events", b"evaluated"
Address = str | tuple[str, int]


class Forwarder(socketserver.ThreadingTCPServer):
    """Proxy that forwards connections to a server. `seen` counts `STORES` and `EVALUATED` in the data."""

    def __init__(self, address: str, server: Address) -> None:
        super().__init__((address, 0), _Connection)
        self.server, self.seen = server, Counter[bytes]()
        self.interrupted, self.closing = threading.Event(), threading.Event()
        self.ends: list[socket.socket] = []

    def forward(self, near: socket.socket, far: socket.socket) -> None:
        """Forward data from `near` to `far` until one of these sockets is closed, then shut down both sockets."""
        with suppress(OSError):
            while data := near.recv(1 << 16):
                if self.interrupted.is_set():
                    self.closing.wait()
                self.seen.update({marker: data.count(marker) for marker in (STORES, EVALUATED)})
                far.sendall(data)
        for end in (near, far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class _Connection(socketserver.BaseRequestHandler):
    server: Forwarder

    def handle(self) -> None:
        family = socket.AF_UNIX if isinstance(self.server.server, str) else socket.AF_INET
        with socket.socket(family) as far:
            far.connect(self.server.server)
            self.server.ends += (self.request, far)
            back = threading.Thread(target=self.server.forward, args=(far, self.request))
            back.start()
            self.server.forward(self.request, far)
            back.join()


@contextmanager
def forwarder(address: str, server: Address) -> Iterator[Forwarder]:
    """Run a forwarder to `server` in a thread during the block."""
    with Forwarder(address, server) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield running
        finally:
            running.closing.set()
            running.shutdown()
            thread.join()
            for end in running.ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@dataclass
class Host:
    """Host whose processes connect to Redis and PostgreSQL only through forwarders.

    `network` is the name of the network namespace and of its link; None without a namespace.
    """

    network: str | None
    redis: Forwarder
    postgres: Forwarder
    settings: dict[str, str]
    #: Id of the worker on the host. The names of the worker's leases contain this id.
    worker: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self) -> None:
        """Start a worker process on the host."""
        inside = ["ip", "netns", "exec", self.network] if self.network else []
        command = [*inside, sys.executable, "-m", "eventpulse", "worker"]
        self.processes.append(subprocess.Popen(command, env=os.environ | self.settings, start_new_session=True))

    def disconnect(self) -> None:
        """Drop all data from now on; the connections stay open."""
        if self.network:
            ip("link", "set", self.network, "down")
        else:
            self.redis.interrupted.set()
            self.postgres.interrupted.set()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextmanager
def host(redis_url: str, database_url: str) -> Iterator[Host]:
    """Yield a new host for these servers. The end of the block kills the host's processes and deletes its network."""
    to_redis, to_postgres = parse_url(redis_url), parse_dsn(database_url)
    with ExitStack() as undo:
        network, address = undo.enter_context(_network())
        redis_at = to_redis.get("path") or (to_redis["host"], to_redis.get("port", 6379))
        redis_forwarder = undo.enter_context(forwarder(address, redis_at))
        server, port = to_postgres.get("host", "127.0.0.1"), to_postgres.get("port", "5432")
        postgres_at = f"{server}/.s.PGSQL.{port}" if server.startswith("/") else (server, int(port))
        postgres_forwarder = undo.enter_context(forwarder(address, postgres_at))
        user = to_postgres["user"] + (f":{to_postgres['password']}" if "password" in to_postgres else "")
        settings = {
            "REDIS_URL": f"redis://{address}:{redis_forwarder.server_address[1]}/{to_redis.get('db', 0)}",
            "DATABASE_URL": f"postgresql://{user}@{address}:{postgres_forwarder.server_address[1]}/{to_postgres['dbname']}",
            "LOG_LEVEL": "error",
        }
        created = Host(network, redis_forwarder, postgres_forwarder, settings)
        undo.callback(created.kill)
        yield created


def ip(*arguments: str) -> str:
    """Run the `ip` command and return its output."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@contextmanager
def _network() -> Iterator[tuple[str | None, str]]:
    """Yield the name of a new network namespace, and the address at which the namespace reaches this process.

    If this process may not create a namespace, yield None and the loopback address.
    """
    name = f"ep{secrets.token_hex(4)}"
    try:
        _add_namespace(name)
    except (OSError, subprocess.CalledProcessError):
        yield None, "127.0.0.1"
        return
    try:
        yield name, _link(name)
    finally:
        for undo in (("link", "del", name), ("netns", "del", name)):
            with suppress(subprocess.CalledProcessError):
                ip(*undo)


def _add_namespace(name: str) -> None:
    """Create a network namespace.

    Raises `OSError` or `CalledProcessError` if this process is not permitted to, or if the command `ip` is missing.
    """
    if os.geteuid() != 0 or not shutil.which("ip"):
        raise PermissionError
    ip("netns", "add", name)


def _link(name: str) -> str:
    """Link the namespace `name` to the namespace of this process; return the address of this process on the link."""
    taken = ip("-o", "address")
    prefixes = [f"10.213.{third}.{fourth}" for third in range(256) for fourth in range(0, 256, 4)]
    start = random.choice([each for each in prefixes if f" {each[: each.rindex('.')]}." not in taken])
    network, last = start.rsplit(".", 1)
    outer, inner = f"{network}.{int(last) + 1}", f"{network}.{int(last) + 2}"
    ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    ip("address", "add", f"{outer}/30", "dev", name)
    ip("link", "set", name, "up")
    ip("-n", name, "address", "add", f"{inner}/30", "dev", "eth0")
    ip("-n", name, "link", "set", "eth0", "up")
    return outer

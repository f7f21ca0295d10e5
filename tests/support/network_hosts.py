"""Hosts for worker processes: each in a network of its own, where one can be made, behind wires that can be cut."""

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

#: What passes on a host's way to a server when it stores events, and when it has evaluated some.
STORES, EVALUATED = b"INSERT INTO events", b"evaluated"
Address = str | tuple[str, int]


class Wire(socketserver.ThreadingTCPServer):
    """Takes connections at an address and passes them on to a server; `seen` counts what went there."""

    def __init__(self, address: str, server: Address) -> None:
        super().__init__((address, 0), _Passage)
        self.server, self.seen = server, Counter[bytes]()
        self.cut, self.closing = threading.Event(), threading.Event()
        self.ends: list[socket.socket] = []

    def carry(self, near: socket.socket, far: socket.socket) -> None:
        """Pass on what comes, until either end closes."""
        with suppress(OSError):
            while data := near.recv(1 << 16):
                if self.cut.is_set():
                    self.closing.wait()
                self.seen.update({what: data.count(what) for what in (STORES, EVALUATED)})
                far.sendall(data)
        for end in (near, far):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class _Passage(socketserver.BaseRequestHandler):
    server: Wire

    def handle(self) -> None:
        family = socket.AF_UNIX if isinstance(self.server.server, str) else socket.AF_INET
        with socket.socket(family) as far:
            far.connect(self.server.server)
            self.server.ends += (self.request, far)
            back = threading.Thread(target=self.server.carry, args=(far, self.request))
            back.start()
            self.server.carry(self.request, far)
            back.join()


@contextmanager
def wire(address: str, server: Address) -> Iterator[Wire]:
    with Wire(address, server) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            made.closing.set()
            made.shutdown()
            thread.join()
            for end in made.ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@dataclass
class Host:
    """Reaches the servers through its wires only. `network` is the name of its namespace and its link, if any."""

    network: str | None
    redis: Wire
    postgres: Wire
    settings: dict[str, str]
    #: The id under which its worker has leases.
    worker: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_worker(self) -> None:
        inside = ["ip", "netns", "exec", self.network] if self.network else []
        command = [*inside, sys.executable, "-m", "eventpulse", "worker"]
        self.processes.append(subprocess.Popen(command, env=os.environ | self.settings, start_new_session=True))

    def cut_off(self) -> None:
        """From now on nothing gets through, and nobody is told."""
        if self.network:
            ip("link", "set", self.network, "down")
        else:
            self.redis.cut.set()
            self.postgres.cut.set()

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextmanager
def host(redis_url: str, database_url: str) -> Iterator[Host]:
    """A host for these servers; when the block ends nothing of it is left, whatever runs there."""
    to_redis, to_postgres = parse_url(redis_url), parse_dsn(database_url)
    with ExitStack() as undo:
        network, address = undo.enter_context(_network())
        redis_at = to_redis.get("path") or (to_redis["host"], to_redis.get("port", 6379))
        redis_wire = undo.enter_context(wire(address, redis_at))
        at, port = to_postgres.get("host", "127.0.0.1"), to_postgres.get("port", "5432")
        postgres_at = f"{at}/.s.PGSQL.{port}" if at.startswith("/") else (at, int(port))
        postgres_wire = undo.enter_context(wire(address, postgres_at))
        who = to_postgres["user"] + (f":{to_postgres['password']}" if "password" in to_postgres else "")
        settings = {
            "REDIS_URL": f"redis://{address}:{redis_wire.server_address[1]}/{to_redis.get('db', 0)}",
            "DATABASE_URL": f"postgresql://{who}@{address}:{postgres_wire.server_address[1]}/{to_postgres['dbname']}",
            "LOG_LEVEL": "error",
        }
        made = Host(network, redis_wire, postgres_wire, settings)
        undo.callback(made.kill)
        yield made


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@contextmanager
def _network() -> Iterator[tuple[str | None, str]]:
    """A namespace, and the address of ours that is reached from it; where none can be made, None and the loopback."""
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
    """Raises `OSError` or `CalledProcessError` for who may not, or has no `ip`."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        raise PermissionError
    ip("netns", "add", name)


def _link(name: str) -> str:
    """Lay a cable into the namespace; returns the address of its outer end."""
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

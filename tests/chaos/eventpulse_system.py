"""EventPulse as a system under test: real processes, separate servers, and two webhooks as channels."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from chaos.server_state import ServerState
from chaos.supervised_process import SupervisedProcess, running
from chaos.system import EventLocations
from chaos.traffic import COOLDOWN_RULE, RULE
from chaos.webhook import Webhook, webhook
from support.processes import COMMAND, environ, free_ports
from support.waiting import until

from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon
from models import database, migrations

START_SECONDS = 60
LOG_TAIL_BYTES = 6_000
#: Function that starts a proxy for a Redis URL; the processes connect to the `url` of the proxy.
ProxyFactory = Callable[[str], AbstractContextManager[Any]]


class EventPulseSystem:
    """Running EventPulse. See `System`."""

    name = "eventpulse"

    def __init__(self, redis: Daemon, postgres: Daemon, folder: Path, settings: Mapping[str, str]) -> None:
        self.redis, self.postgres, self.folder = redis, postgres, folder
        self.state = ServerState(redis.url, postgres.url)
        self.settings = dict(settings)
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}/api/v1"
        self.settings["EVENTPULSE_PORT"] = str(self._port)
        self.log = folder / "processes.log"
        self.processes: dict[str, list[SupervisedProcess]] = {"api": [], "worker": [], "scheduler": []}
        self.webhooks: list[Webhook] = []
        self.proxy: Any = None
        self.disk: Any = None
        self.soak_minutes = 0.0

    def add(self, unit: str, command: Sequence[str] = tuple(COMMAND), **settings: str) -> SupervisedProcess:
        """Start another supervised process of a unit."""
        process = SupervisedProcess([*command, unit], environ(**self.settings, **settings), self.log)
        self.processes[unit].append(process)
        return process

    def pids(self, unit: str) -> Sequence[int]:
        parents = running(self.processes[unit])
        if unit != "api":
            return [parent.pid for parent in parents]
        workers: list[psutil.Process] = []
        for parent in parents:
            with suppress(psutil.NoSuchProcess):
                workers += parent.children()
        return [worker.pid for worker in workers]

    def stop(self, unit: str, which: int) -> None:
        self.processes[unit][which % len(self.processes[unit])].terminate()

    def locations(self) -> EventLocations:
        return self.state.locations()

    def evaluations(self) -> Mapping[str, int]:
        return self.state.evaluations()

    def is_idle(self) -> bool:
        return self.state.is_idle()

    def tail(self) -> str:
        """Return the last `LOG_TAIL_BYTES` of the common log of the processes."""
        with suppress(OSError):
            return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        return ""

    def prepare(self, lateness_seconds: int = 3_600) -> None:
        """Wait until the system is ready, create the rules, enable only the webhooks, and wait for a leader."""
        with httpx.Client(base_url=self.url, timeout=10) as client:
            until(lambda: _is_ready(client), START_SECONDS)
            for channel in client.get("/channels").json()["data"]:
                client.patch(f"/channels/{channel['channel_id']}", json={"enabled": False}).raise_for_status()
            for each in self.webhooks:
                channel_settings = {"name": each.name, "kind": "slack", "settings": {"webhook_url": each.url}}
                client.post("/channels", json=channel_settings).raise_for_status()
            for rule in (RULE, COOLDOWN_RULE):
                client.post("/rules", json=rule | {"allowed_lateness_seconds": lateness_seconds}).raise_for_status()
        until(self._has_leader, START_SECONDS)

    def _has_leader(self) -> bool:
        leader = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
        return not self.processes["scheduler"] or bool(self.state.rows(leader))

    def stop_all(self) -> None:
        """Resume suspended processes, then stop every process and its children, the API first."""
        for unit in ("api", "scheduler", "worker"):
            for supervised in self.processes[unit]:
                for process in (supervised.process, *_children(supervised.process)):
                    if process:
                        with suppress(psutil.NoSuchProcess):
                            process.resume()
        for unit in ("api", "scheduler", "worker"):
            for supervised in self.processes[unit]:
                supervised.stop()
        self.state.close()


@contextmanager
def eventpulse_system(
    fsync: str = "always",
    workers: int = 2,
    schedulers: int = 1,
    api_workers: int = 1,
    proxy_factory: ProxyFactory | None = None,
    start_postgres: Callable[[Path], Daemon] = embedded.start_postgres,
    lateness_seconds: int = 3_600,
    **settings: str,
) -> Iterator[EventPulseSystem]:
    """Start EventPulse with its own Redis and PostgreSQL, and yield the system when it is ready.

    `fsync` is the `appendfsync` of Redis. With `proxy_factory`, the processes connect to Redis through `system.proxy`.
    `lateness_seconds` is the allowed lateness of the rules. `settings` are environment variables. The end of the block
    stops all processes and deletes all files.
    """
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)))
        # If this process is root, PostgreSQL runs as another user, which could not enter a private folder.
        folder.chmod(0o755)
        redis = embedded.start_redis(folder / "redis")
        undo.callback(stop_server_process, redis)
        set_fsync(redis, fsync)
        postgres = start_postgres(folder / "postgres")
        undo.callback(stop_server_process, postgres)
        database.configure(postgres.url, name="chaos")
        migrations.up()
        database.database.close_all()
        proxy = undo.enter_context(proxy_factory(redis.url) if proxy_factory else nullcontext())
        own = {
            "REDIS_URL": proxy.url if proxy else redis.url,
            "DATABASE_URL": postgres.url,
            "EVENTPULSE_API_WORKERS": str(api_workers),
            "LOG_LEVEL": "warning",
            # The audit expects an anomaly for each firing, also when an outage delays the firings of several minutes.
            "EVENTPULSE_STORM_RULE_PER_MINUTE": "1000000",
        }
        system = EventPulseSystem(redis, postgres, folder, own | settings)
        system.proxy = proxy
        system.webhooks = [undo.enter_context(webhook(name)) for name in ("first", "second")]
        undo.callback(system.stop_all)
        try:
            for unit in ["api", *["worker"] * workers, *["scheduler"] * min(schedulers, 1)]:
                system.add(unit)
            system.prepare(lateness_seconds)
            for _ in range(1, schedulers):
                system.add("scheduler")  # started later, so that the oldest scheduler is the leader
            yield system
        except BaseException:
            sys.stderr.write(system.tail())
            raise


def stop_server_process(server: Daemon) -> None:
    """Stop a server that may be suspended."""
    if server.exit_status() is None:
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGCONT)
    server.stop()


def set_fsync(redis: Daemon, fsync: str) -> None:
    """Set `appendfsync` in a running Redis, and in the command of its later starts."""
    redis.command = [fsync if part == "always" else part for part in redis.command]
    with ServerState(redis.url, "").client as client:
        client.config_set("appendfsync", fsync)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/events/health").json().get("worker") == "ok"
    except (httpx.TransportError, ValueError):
        return False


def _children(process: psutil.Process | None) -> list[psutil.Process]:
    try:
        return process.children(recursive=True) if process else []
    except psutil.NoSuchProcess:
        return []

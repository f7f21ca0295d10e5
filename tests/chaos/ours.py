"""EventPulse as a plant: its real processes on servers of its own, and two webhooks that it tells of anomalies."""

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
from chaos.keeping import Keeper, running
from chaos.observing import Observed
from chaos.system import Found, Holdings
from chaos.traffic import QUIET_RULE, RULE
from chaos.webhooks import Webhook, webhook
from support.processes import COMMAND, environ, free_ports
from support.waiting import until

from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon
from models import database, migrations

START_SECONDS = 60
LOG_TAIL_BYTES = 6_000
#: Of each redis and postgres, how it is reached by the processes of ours, given how it is reached in truth.
Through = Callable[[str], AbstractContextManager[Any]]


class Ours:
    """A running EventPulse. See `Plant`."""

    name = "ours"

    def __init__(self, redis: Daemon, postgres: Daemon, folder: Path, settings: Mapping[str, str]) -> None:
        self.redis, self.postgres, self.folder = redis, postgres, folder
        self.observed = Observed(redis.url, postgres.url)
        self.settings = dict(settings)
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}/api/v1"
        self.settings["EVENTPULSE_PORT"] = str(self._port)
        self.log = folder / "processes.log"
        self.keepers: dict[str, list[Keeper]] = {"api": [], "worker": [], "scheduler": []}
        self.webhooks: list[Webhook] = []
        self.through: Any = None
        self.disk: Any = None
        self.soak_minutes = 0.0

    def add(self, unit: str, command: Sequence[str] = tuple(COMMAND), **settings: str) -> Keeper:
        """Start another process of a unit, and keep it running."""
        made = Keeper([*command, unit], environ(**self.settings, **settings), self.log)
        self.keepers[unit].append(made)
        return made

    def pids(self, unit: str) -> Sequence[int]:
        parents = running(self.keepers[unit])
        if unit != "api":
            return [parent.pid for parent in parents]
        workers: list[psutil.Process] = []
        for parent in parents:
            with suppress(psutil.NoSuchProcess):
                workers += parent.children()
        return [worker.pid for worker in workers]

    def stop(self, unit: str, which: int) -> None:
        self.keepers[unit][which % len(self.keepers[unit])].terminate()

    def holdings(self) -> Holdings:
        return self.observed.holdings()

    def evaluations(self) -> Mapping[str, int]:
        return self.observed.evaluations()

    def findings(self) -> Mapping[Found, int]:
        """How often each alert was recorded."""
        return self.observed.findings()

    def quiet(self) -> bool:
        return self.observed.quiet()

    def tail(self) -> str:
        """The last lines that the processes wrote."""
        with suppress(OSError):
            return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        return ""

    def prepare(self, lateness_seconds: int = 3_600) -> None:
        """Put the rules in force, and tell the webhooks of what it finds, and nobody else."""
        with httpx.Client(base_url=self.url, timeout=10) as client:
            until(lambda: _is_ready(client), START_SECONDS)
            for channel in client.get("/channels").json()["data"]:
                client.patch(f"/channels/{channel['channel_id']}", json={"enabled": False}).raise_for_status()
            for each in self.webhooks:
                made = {"name": each.name, "kind": "slack", "settings": {"webhook_url": each.url}}
                client.post("/channels", json=made).raise_for_status()
            for rule in (RULE, QUIET_RULE):
                made = rule | {"allowed_lateness_seconds": lateness_seconds}
                client.post("/rules", json=made).raise_for_status()
        until(self._is_led, START_SECONDS)

    def _is_led(self) -> bool:
        led = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
        return not self.keepers["scheduler"] or bool(self.observed.rows(led))

    def end(self) -> None:
        """Stop every process, the API first; afterwards nothing of them is left."""
        for unit in ("api", "scheduler", "worker"):
            for keeper in self.keepers[unit]:
                for process in (keeper.process, *_children(keeper.process)):
                    if process:
                        with suppress(psutil.NoSuchProcess):
                            process.resume()
        for unit in ("api", "scheduler", "worker"):
            for keeper in self.keepers[unit]:
                keeper.end()
        self.observed.close()


@contextmanager
def ours(
    fsync: str = "always",
    workers: int = 2,
    schedulers: int = 1,
    api_workers: int = 1,
    through: Through | None = None,
    start_postgres: Callable[[Path], Daemon] = embedded.start_postgres,
    lateness_seconds: int = 3_600,
    **settings: str,
) -> Iterator[Ours]:
    """EventPulse on a Redis with this `appendfsync` and a PostgreSQL of its own, ready, with its rules in force.

    `through` makes a proxy of Redis' URL that has a `url` of its own, which the processes use: the plant's `through`.
    The rules look at events that are up to `lateness_seconds` late. `settings` are variables of the environment.
    Whatever happens, nothing is left of it when the block ends.
    """
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="battery-", ignore_cleanup_errors=True)))
        folder.chmod(0o755)  # as root, PostgreSQL runs as another user
        redis = embedded.start_redis(folder / "redis")
        undo.callback(put_away, redis)
        set_fsync(redis, fsync)
        postgres = start_postgres(folder / "postgres")
        undo.callback(put_away, postgres)
        database.configure(postgres.url, name="battery")
        migrations.up()
        database.database.close_all()
        proxy = undo.enter_context(through(redis.url) if through else nullcontext())
        own = {
            "REDIS_URL": proxy.url if proxy else redis.url,
            "DATABASE_URL": postgres.url,
            "EVENTPULSE_API_WORKERS": str(api_workers),
            "LOG_LEVEL": "warning",
        }
        plant = Ours(redis, postgres, folder, own | settings)
        plant.through = proxy
        plant.webhooks = [undo.enter_context(webhook(name)) for name in ("first", "second")]
        undo.callback(plant.end)
        try:
            for unit in ["api", *["worker"] * workers, *["scheduler"] * min(schedulers, 1)]:
                plant.add(unit)
            plant.prepare(lateness_seconds)
            for _ in range(1, schedulers):
                plant.add("scheduler")  # the oldest of them leads
            yield plant
        except BaseException:
            sys.stderr.write(plant.tail())
            raise


def put_away(server: Daemon) -> None:
    """Stop a server in whatever state it is."""
    if server.exit_status() is None:
        with suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGCONT)
    server.stop()


def set_fsync(redis: Daemon, fsync: str) -> None:
    """Have a running Redis write to disk so, and after each start."""
    redis.command = [fsync if part == "always" else part for part in redis.command]
    with Observed(redis.url, "").client as client:
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

"""EventPulse for a benchmark: `eventpulse up` with temporary servers."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psutil
import redis
from servers import Servers, cpu_seconds, servers

START_SECONDS = 60
STOP_SECONDS = 30
UNITS = ("api", "live", "worker", "scheduler")
#: Ten rules, one for each event type of `eventpulse.cli.load_generator`. Only the first rule fires, once a minute for
#: each source.
RULES: list[dict[str, Any]] = [
    {
        "name": f"Many {number}",
        "severity": "info",
        "window_seconds": 5,
        "cooldown_seconds": 60,
        "condition": {
            "type": "threshold",
            "filters": {"event_type": f"bench.step-{number}"},
            "group_by": ["source"],
            "operator": ">",
            "value": 50 if number == 0 else 2_000,
        },
    }
    for number in range(10)
]


@dataclass(frozen=True)
class System:
    """Running `eventpulse up`; `api` is the URL of its API, including the version."""

    servers: Servers
    api: str
    launcher: psutil.Process
    redis: "redis.Redis"

    def processes(self, unit: str) -> list[psutil.Process]:
        """Return the processes of a unit; for the API, the worker processes of gunicorn."""
        children = [child for child in self.launcher.children() if child.cmdline()[-1:] == [unit]]
        return [worker for parent in children for worker in parent.children()] if unit == "api" else children

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds used so far, by unit and by server."""
        used = {unit: sum(cpu_seconds(each.pid) for each in self.processes(unit)) for unit in UNITS}
        return used | {"redis": self.servers.redis_cpu_seconds(), "postgres": self.servers.postgres_cpu_seconds()}

    def backlog(self) -> int:
        """Return the number of waiting and leased messages of all queues."""
        return sum(int(self.redis.get(f"eventpulse:{queue}.count") or 0) for queue in ("persist", "evaluate", "notify"))

    def pause_workers(self) -> None:
        for worker in self.processes("worker"):
            worker.suspend()

    def resume_workers(self) -> None:
        for worker in self.processes("worker"):
            worker.resume()

    def settle(self, seconds: float = 120) -> None:
        """Wait until the backlog is empty. Raises `TimeoutError` after `seconds`."""
        deadline = time.monotonic() + seconds
        while self.backlog():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.backlog()} messages in the backlog after {seconds:g} s")
            time.sleep(0.02)


@contextmanager
def system(
    fsync: str = "always",
    workers: int = 2,
    api_workers: int = 2,
    read: Callable[[str], None] = lambda _: None,
    **settings: str,
) -> Iterator[System]:
    """Run `eventpulse up` with ten rules and temporary servers; `fsync` is the `appendfsync` of Redis.

    A separate thread calls `read` with each line of the output.
    """
    port, live_port = _free_port(), _free_port()
    with servers(fsync) as own:
        environ = own.environ() | {
            "EVENTPULSE_PORT": str(port),
            "EVENTPULSE_LIVE_PORT": str(live_port),
            "EVENTPULSE_WORKERS": str(workers),
            "EVENTPULSE_API_WORKERS": str(api_workers),
            "LOG_LEVEL": "warning",
            **settings,
        }
        launcher = subprocess.Popen(
            [sys.executable, "-m", "eventpulse", "up"],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        reader = threading.Thread(target=_read, args=(launcher, read))
        reader.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10) as client:
                _wait_until_ready(client, launcher)
                for rule in RULES:
                    client.post("/rules", json=rule).raise_for_status()
            with redis.Redis.from_url(own.redis_url) as connection:
                yield System(own, f"http://127.0.0.1:{port}/api/v1", psutil.Process(launcher.pid), connection)
        finally:
            for child in psutil.Process(launcher.pid).children():
                child.resume()
            launcher.send_signal(signal.SIGINT)
            launcher.wait(STOP_SECONDS)
            reader.join()


def _read(launcher: "subprocess.Popen[str]", read: Callable[[str], None]) -> None:
    assert launcher.stdout is not None
    for line in launcher.stdout:
        read(line)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_until_ready(client: httpx.Client, launcher: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and launcher.poll() is None:
        try:
            if client.get("/events/health").json().get("worker") == "ok":
                return
        except (httpx.TransportError, ValueError):
            pass
        time.sleep(0.1)
    raise SystemExit(f"EventPulse exited, or was not ready within {START_SECONDS} s")

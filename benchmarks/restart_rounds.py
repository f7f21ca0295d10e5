"""Benchmark that kills `eventpulse up` with all its processes under traffic, and starts it again, many times.

    .venv/bin/python benchmarks/restart_rounds.py [--rounds 30]

Each round posts batches of events, sends SIGKILL to the supervisor, to every process and to both embedded servers,
waits 0, 0.2 or 1 s, and starts `eventpulse up` once. In every second round the killed processes stay zombies, as in a
container whose first process does not reap zombies. The exit code is 1 if a start fails, or if an accepted
event is not stored at the end.
"""

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import httpx
import psutil
import psycopg2
from uuid_utils.compat import uuid7

DELAYS = (0.0, 0.0, 0.2, 0.2, 1.0, 1.0)  # seconds between the kill and the next start
TRAFFIC_SECONDS = 1.0  # time from the start of the traffic to the kill
START_SECONDS = 90.0
STORED_SECONDS = 120.0
BATCH = 20
PR_SET_CHILD_SUBREAPER = 36  # constant of <sys/prctl.h>


class RestartFailed(Exception):
    """Raised when `eventpulse up` does not start, does not stop cleanly, or has not stored an accepted event."""


class Instance:
    """Running `eventpulse up` with its data and the log of its output in `folder`."""

    def __init__(self, folder: Path, name: str, ports: tuple[int, int]) -> None:
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.log = folder / f"{name}.log"
        settings = {
            "EVENTPULSE_DATA_DIR": str(folder / "data"),
            "EVENTPULSE_PORT": str(ports[0]),
            "EVENTPULSE_LIVE_PORT": str(ports[1]),
            "EVENTPULSE_API_WORKERS": "1",
            "EVENTPULSE_WORKERS": "1",
            "LOG_FORMAT": "console",
        }
        given = ("REDIS_URL", "DATABASE_URL")
        environ = {name: value for name, value in os.environ.items() if name not in given} | settings
        command = [sys.executable, "-P", "-m", "eventpulse", "up"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while "EventPulse is running" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RestartFailed(self.log.read_text().strip())
            time.sleep(0.02)

    def kill_everything(self) -> None:
        """Send SIGKILL to the supervisor and to each of its descendants, including the embedded servers."""
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        if self.process.wait(30) != 0:
            raise RestartFailed(f"the last instance did not stop cleanly: {self.log.read_text()}")


class Traffic:
    """Thread that posts batches of events until it is stopped, and records the ids of accepted events."""

    def __init__(self, url: str, accepted: list[str]) -> None:
        self._url = url
        self._accepted = accepted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=5, trust_env=False) as client:
            while not self._stop.is_set():
                events = [_event() for _ in range(BATCH)]
                with suppress(httpx.TransportError):
                    if client.post("/api/v1/events/batch", json=events).status_code == httpx.codes.ACCEPTED:
                        self._accepted += [event["event_id"] for event in events]


def _event() -> dict[str, str]:
    now = datetime.now(UTC).isoformat()
    return {"event_id": str(uuid7()), "event_type": "restart", "source": "rounds", "timestamp": now}


def run(rounds: int, folder: Path) -> None:
    """Kill and start `eventpulse up` `rounds` times under traffic. Raises `RestartFailed`."""
    ports = _free_ports()
    accepted: list[str] = []
    instance = Instance(folder, "start-0", ports)
    try:
        instance.wait_until_ready()
        for number, delay in zip(range(1, rounds + 1), cycle(DELAYS)):
            before = len(accepted)
            _keep_zombies(number % 2 == 0)
            with Traffic(instance.url, accepted):
                time.sleep(TRAFFIC_SECONDS)
                instance.kill_everything()
            time.sleep(delay)
            began = time.monotonic()
            instance = Instance(folder, f"start-{number}", ports)
            instance.wait_until_ready()
            _keep_zombies(False)
            took, events = time.monotonic() - began, len(accepted) - before
            print(
                f"round {number:2}: {events} events accepted; started {delay:g} s after the kill, ready in {took:.1f} s"
            )
        _verify_stored(folder / "data" / "postgres", accepted)
        instance.stop()
    finally:
        if instance.process.poll() is None:
            instance.kill_everything()
    print(f"{rounds} of {rounds} first starts succeeded; all {len(accepted)} accepted events are stored")


def _verify_stored(sockets: Path, accepted: list[str]) -> None:
    deadline = time.monotonic() + STORED_SECONDS
    while missing := _missing(sockets, accepted):
        if time.monotonic() > deadline:
            raise RestartFailed(f"{len(missing)} of {len(accepted)} accepted events are not stored")
        time.sleep(0.5)


def _missing(sockets: Path, accepted: list[str]) -> set[str]:
    with psycopg2.connect(host=str(sockets), user="postgres", dbname="postgres") as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT event_id::text FROM events WHERE event_type = 'restart'")
        stored = {event_id for (event_id,) in cursor}
    connection.close()
    return set(accepted) - stored


def _keep_zombies(keep: bool) -> None:
    """Keep orphaned processes as zombies of this process if `keep`; otherwise reap these zombies (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(keep), 0, 0, 0)
    if not keep:
        for child in psutil.Process().children():
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, 0)


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="eventpulse-rounds-", ignore_cleanup_errors=True) as folder:
        try:
            run(rounds, Path(folder))
        except RestartFailed as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

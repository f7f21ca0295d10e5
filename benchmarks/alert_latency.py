"""Event posted → alert on the console channel, under light load.

    .venv/bin/python benchmarks/alert_latency.py [--alerts 200] [--per-second 20]

Starts the whole system with `eventpulse up` in a folder of its own, makes a rule that fires once for each
probe, posts one event at a time and reads the alerts off the terminal. Prints the latency from the start
of the POST to the alert's line: p50, p95, max, in ms.
"""

import argparse
import os
import queue
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx

RULE = {
    "name": "Latency probe",
    "severity": "info",
    "window_seconds": 60,
    "cooldown_seconds": 0,
    "condition": {"type": "threshold", "operator": ">=", "value": 1, "group_by": ["payload.probe"]},
}
PROBE = re.compile(r"probe-(\d+)-")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def system() -> Iterator[tuple[str, "queue.Queue[tuple[float, str]]"]]:
    """A running EventPulse: its URL, and the lines of its terminal with the time each was read."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="eventpulse-benchmark-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user
        environment = os.environ | {
            "EVENTPULSE_DATA_DIR": f"{folder}/data",
            "EVENTPULSE_PORT": str(port),
            "EVENTPULSE_LIVE_PORT": str(free_port()),
        }
        command = [sys.executable, "-m", "eventpulse", "up"]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: queue.Queue[tuple[float, str]] = queue.Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put((time.perf_counter(), line))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield f"http://127.0.0.1:{port}", lines
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
            reader.join(5)


def wait_until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if client.get("/api/v1/events/health").json().get("worker") == "ok":
                return
        except (httpx.TransportError, ValueError):
            pass
        time.sleep(0.1)
    raise SystemExit("the system did not start within 60 s")


def post(client: httpx.Client, probe: int) -> float:
    started = time.perf_counter()
    event = {
        "event_type": "probe",
        "source": "benchmark",
        "timestamp": datetime.now(UTC).isoformat(),
        "payload": {"probe": f"probe-{probe}-"},
    }
    client.post("/api/v1/events", json=event).raise_for_status()
    return started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=200)
    parser.add_argument("--per-second", type=float, default=20)
    options = parser.parse_args()
    with system() as (url, lines), httpx.Client(base_url=url, timeout=5) as client:
        wait_until_ready(client)
        client.post("/api/v1/rules", json=RULE).raise_for_status()
        started: dict[int, float] = {}
        next_at = time.perf_counter()
        for probe in range(options.alerts):
            started[probe] = post(client, probe)
            next_at += 1 / options.per_second
            time.sleep(max(0.0, next_at - time.perf_counter()))
        seen: dict[int, float] = {}
        deadline = time.monotonic() + 10
        while len(seen) < options.alerts and time.monotonic() < deadline:
            try:
                at, line = lines.get(timeout=1)
            except queue.Empty:
                continue
            if found := PROBE.search(line):
                seen.setdefault(int(found[1]), at)
        delays = sorted((seen[probe] - started[probe]) * 1000 for probe in seen)
        p95 = statistics.quantiles(delays, n=20)[-1]
        print(f"alerts seen   {len(seen)} of {options.alerts}, posted {options.per_second:g}/s")
        print(f"post → alert  p50 {statistics.median(delays):.1f} ms, p95 {p95:.1f} ms, max {delays[-1]:.1f} ms")


if __name__ == "__main__":
    main()

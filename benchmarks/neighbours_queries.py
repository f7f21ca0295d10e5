"""Benchmark of changes, ingest and queries while clients start slow reads and disconnect.

    .venv/bin/python benchmarks/neighbours_queries.py [--clients 60] [--seconds 20]

A lock on the table `events`, held by another session until the end, makes every read of events slow: without a limit, a
read takes as long as the lock is held. Each client sends such a read, disconnects after 0.3 s, and starts again.
Meanwhile an administrator changes a rule twice a second, and another client sends an event ten times a second.
"""

import argparse
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import psycopg2
from report import Line, Report
from servers import Servers, servers
from system import RULES

from eventpulse import logs

PATIENCE_SECONDS = 0.3
TIMEOUT_SECONDS = 60
READ = b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
EVENT = {"event_type": "bench.step-0", "source": "shop", "timestamp": "2026-11-24T12:00:00Z"}
# Sample of the queries of the API: their number, and the age of the oldest in seconds.
QUERIES = """
    SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0) FROM pg_stat_activity
    WHERE application_name = 'eventpulse-api' AND state = 'active' AND query LIKE '%"events"%'
"""


@contextmanager
def api(own: Servers) -> Iterator[int]:
    """Run `eventpulse api` with one worker process; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    environ = own.environ() | {"EVENTPULSE_PORT": str(port), "EVENTPULSE_API_WORKERS": "1", "LOG_LEVEL": "error"}
    process = subprocess.Popen([sys.executable, "-m", "eventpulse", "api"], env=environ)
    try:
        deadline = time.monotonic() + 30
        with socket.socket() as attempt:
            while attempt.connect_ex(("127.0.0.1", port)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("The API did not start")
                time.sleep(0.05)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


@contextmanager
def lock_on_events(own: Servers) -> Iterator[None]:
    connection = psycopg2.connect(own.database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE events IN ACCESS EXCLUSIVE MODE")
        yield
    connection.close()


@contextmanager
def repeating(step: Callable[[], None], count: int = 1) -> Iterator[None]:
    """Repeat `step` in `count` threads during the block."""
    stopped = threading.Event()

    def repeat() -> None:
        while not stopped.is_set():
            step()

    threads = [threading.Thread(target=repeat) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def read_and_disconnect(port: int) -> None:
    """Start a slow read and disconnect after `PATIENCE_SECONDS`."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(READ)
        time.sleep(PATIENCE_SECONDS)


@dataclass
class Requests:
    """Durations of requests in seconds, and the number of requests that failed."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    def send(self, call: Callable[[], httpx.Response], pause: float) -> None:
        """Send a request, and pause."""
        started = time.monotonic()
        try:
            self.failed += not call().is_success
        except httpx.TransportError:
            self.failed += 1
        self.seconds.append(time.monotonic() - started)
        time.sleep(pause)


def sample(own: Servers, samples: list[tuple[int, float]]) -> None:
    with own.connection.cursor() as cursor:
        cursor.execute(QUERIES)
        count, oldest = next(cursor)
    samples.append((count, float(oldest)))
    time.sleep(0.1)


def seconds_until_no_query_runs(own: Servers) -> float:
    started = time.monotonic()
    samples: list[tuple[int, float]] = [(1, 0.0)]
    while samples[-1][0] and time.monotonic() - started < TIMEOUT_SECONDS:
        sample(own, samples)
    return time.monotonic() - started


def measure(report: Report, clients: int = 60, seconds: float = 20) -> None:
    """Measure with `clients` clients that disconnect, for `seconds`."""
    changes, events = Requests(), Requests()
    samples: list[tuple[int, float]] = []
    with servers() as own, api(own) as port, ExitStack() as stack:
        url = f"http://127.0.0.1:{port}/api/v1"
        http = stack.enter_context(httpx.Client(timeout=TIMEOUT_SECONDS))
        rule = f"{url}/rules/{http.post(f'{url}/rules', json=RULES[0]).json()['rule_id']}"
        stack.enter_context(lock_on_events(own))
        with (
            repeating(lambda: sample(own, samples)),
            repeating(lambda: events.send(lambda: http.post(f"{url}/events", json=EVENT), 0.1)),
            repeating(lambda: changes.send(lambda: http.patch(rule, json={"severity": "info"}), 0.5)),
            repeating(lambda: read_and_disconnect(port), clients),
        ):
            time.sleep(seconds)
        drained = seconds_until_no_query_runs(own)
    excess = max(0.0, max(oldest for _, oldest in samples) - PATIENCE_SECONDS)
    note = f"{clients} clients, {seconds:g} s"
    report.add(
        Line("slowest response to a rule change during slow reads", "s", [max(changes.seconds)], at_most=1, note=note),
        Line("rule changes that failed", "", [changes.failed], at_most=0, note=f"of {len(changes.seconds)}"),
        Line("longest query after its client disconnected", "s", [excess], at_most=5, note=note),
        Line("time until no query of these clients runs", "s", [drained], at_most=5),
        Line("slowest response to an event during slow reads", "s", [max(events.seconds)]),
        Line("events that were not accepted", "", [events.failed], at_most=0, note=f"of {len(events.seconds)}"),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=20)
    logs.configure("error", "console")
    measure(Report(), **vars(parser.parse_args()))

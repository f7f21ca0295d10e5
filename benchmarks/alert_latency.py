"""Benchmark of the latency from a posted event to its alert on the console channel, under light load.

    .venv/bin/python benchmarks/alert_latency.py [--alerts 200] [--per-second 20]

Starts the whole system, creates a rule that fires once for each probe, posts one event at a time and reads the alerts
from the output. The latency is the time from the due time of a probe to the line of its alert in the output.
"""

import argparse
import re
import statistics
import threading
import time
from datetime import UTC, datetime

import httpx
from report import Line, Report
from system import system

RULE = {
    "name": "Latency probe",
    "severity": "info",
    "window_seconds": 60,
    "cooldown_seconds": 0,
    "condition": {"type": "threshold", "operator": ">=", "value": 1, "group_by": ["payload.probe"]},
}
PROBE = re.compile(r"probe-(\d+)-")
ALERT_SECONDS = 10


class Terminal:
    """Reader of the output of `eventpulse up` that records when the alert of each probe appears."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}
        self.changed = threading.Condition()

    def read(self, line: str) -> None:
        if found := PROBE.search(line):
            with self.changed:
                self.seen.setdefault(int(found[1]), time.perf_counter())
                self.changed.notify()


def post(client: httpx.Client, probe: int) -> None:
    """Post the event of one probe."""
    event = {
        "event_type": "probe",
        "source": "benchmark",
        "timestamp": datetime.now(UTC).isoformat(),
        "payload": {"probe": f"probe-{probe}-"},
    }
    client.post("/events", json=event).raise_for_status()


def measure(report: Report, fsync: str, alerts: int, per_second: float) -> None:
    terminal = Terminal()
    with system(fsync, read=terminal.read) as running, httpx.Client(base_url=running.api, timeout=5) as client:
        client.post("/rules", json=RULE).raise_for_status()
        due: dict[int, float] = {}
        started = time.perf_counter()
        for probe in range(alerts):
            due[probe] = started + probe / per_second
            time.sleep(max(0.0, due[probe] - time.perf_counter()))
            post(client, probe)
        with terminal.changed:
            terminal.changed.wait_for(lambda: len(terminal.seen) == alerts, ALERT_SECONDS)
    delays = [(at - due[probe]) * 1000 for probe, at in terminal.seen.items()]
    p95 = statistics.quantiles(delays, n=20)[-1]
    report.add(
        Line(f"event posted → alert, p50 ({fsync})", "ms", [statistics.median(delays)], at_most=30),
        Line(f"event posted → alert, p95 ({fsync})", "ms", [p95], at_most=100),
        Line(f"event posted → alert, longest ({fsync})", "ms", [max(delays)]),
        Line(f"alerts missing ({fsync})", "alerts", [float(alerts - len(delays))], at_most=0),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alerts", type=int, default=200)
    parser.add_argument("--per-second", type=float, default=20)
    parser.add_argument("--fsync", choices=["always", "everysec"], default="always")
    chosen = parser.parse_args()
    measure(Report(), chosen.fsync, chosen.alerts, chosen.per_second)


if __name__ == "__main__":
    main()

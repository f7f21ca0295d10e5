"""Benchmark of a rule that fires for every event: evaluation, backlog and alerts of another rule, and exact counts.

    .venv/bin/python benchmarks/neighbours_rules.py [--seconds 60] [--rate 5000] [--rows 1000000] [--only live …]

The window of the noisy rule is 24 hours and contains `--rows` rows; the rule has no cooldown.

drain  evaluates a backlog without and with the noisy rule, in one process
live   runs the whole system at a fixed rate without and with the noisy rule, and posts probes, for which another
       rule fires. The alerts are read from the output, as in alert_latency.py. Then compares the numbers of recorded
       anomalies and of firings in storm anomalies with the number of events.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import alert_latency
import httpx
import psycopg2
from alert_latency import Terminal
from pipeline import BATCH, accept, drain, make, rate, write_rules
from report import Line, Report
from servers import Servers, servers
from system import System, system

from actors import runtime
from actors.rule_state import rulebook
from eventpulse import logs
from eventpulse.cli import load_generator
from eventpulse.settings import ConnectedSettings
from models import database
from models.rule import Rule

NOISY: dict[str, Any] = {
    "name": "Noisy",
    "severity": "info",
    "window_seconds": 86_400,
    "cooldown_seconds": 0,
    "condition": {"type": "threshold", "filters": {}, "operator": ">=", "value": 1},
}
PROBED = alert_latency.RULE | {"condition": alert_latency.RULE["condition"] | {"filters": {"event_type": "probe"}}}  # type: ignore[dict-item]
FILL = """
    INSERT INTO events (event_id, event_type, source, timestamp, payload, metadata, received_at)
    SELECT gen_random_uuid(), 'bench.step-' || mod(n, 10), 'bench-' || lpad(mod(n, 20)::text, 2, '0'), moment,
           '{"order": 123456, "amount": 12.5, "currency": "EUR"}', '{"region": "eu-west"}', moment
    FROM generate_series(1, %s) AS n, LATERAL (SELECT now() - n * interval '30 ms') AS times(moment)
"""
PROBES_PER_SECOND = 5.0
STORM_SECONDS = 90


def fill(own: Servers, rows: int) -> None:
    """Store `rows` events of the last hours, and update the statistics of the planner."""
    with own.connection.cursor() as cursor:
        cursor.execute(FILL, (rows,))
        cursor.execute("VACUUM ANALYZE events")


def backlogged(report: Report, events: int, rows: int, rounds: int) -> None:
    """Measure the rate of `evaluate` for a backlog without and with the noisy rule; the rule alone reaches its caps."""
    with servers() as own:
        runtime.setup(ConnectedSettings(redis_url=own.redis_url, database_url=own.database_url))
        write_rules()
        fill(own, rows)
        without, ratios = [], []
        for _ in range(rounds):
            quiet = drained(events)
            with database.connection():
                row = Rule.add(allowed_lateness_seconds=3_600, **NOISY)
            rulebook.publish()
            without.append(quiet)
            ratios.append(drained(events) / quiet)
            with database.connection():
                row.remove()
            rulebook.publish()
    report.add(
        Line("evaluate a backlog, without the noisy rule", "events/s", without),
        Line("evaluate a backlog, with the noisy rule / without", "", ratios),
    )


def drained(count: int) -> float:
    """Accept and persist `count` events, and return the rate at which they are evaluated, in events/s."""
    accept(make(count))
    drain("persist")
    return rate(count, lambda: drain("evaluate"))


def live(report: Report, per_second: float, seconds: float, rows: int) -> None:
    terminal = Terminal()
    with system(read=terminal.read) as running, httpx.Client(base_url=running.api, timeout=10) as client:
        fill(running.servers, rows)
        client.post("/rules", json=PROBED).raise_for_status()
        quiet = Phase(running, terminal, client, 0).run(per_second, seconds)
        running.settle()
        before = running.servers.stored()
        client.post("/rules", json=NOISY).raise_for_status()
        noisy = Phase(running, terminal, client, 1_000_000).run(per_second, seconds)
        running.settle(600)
        fired = running.servers.stored() - before
        client.patch(f"/rules/{_rule_id(client)}", json={"enabled": False}).raise_for_status()
        report.add(
            Line("evaluated, without the noisy rule", "events/s", [quiet["evaluated"]]),
            Line("evaluated, with the noisy rule", "events/s", [noisy["evaluated"]], at_least=0.8 * quiet["evaluated"]),
            *(
                Line(f"{name}, {phase} the noisy rule", unit, [values[key]], at_most=bar)
                for phase, values in (("without", quiet), ("with", noisy))
                for name, key, unit, bar in (
                    ("largest backlog", "backlog", "messages", None),
                    ("backlog at the end", "at_end", "messages", 3_000),
                    ("alert of the other rule, p95", "p95", "ms", 100),
                    ("alerts of the other rule missing", "missing", "alerts", 0),
                    ("rejected requests", "rejected", "requests", 0),
                )
            ),
        )
        exact(report, running, fired)


def exact(report: Report, running: System, fired: int) -> None:
    """Compare the number of firings with the recorded anomalies and the counts of the storm anomalies."""
    wanted = time.monotonic() + STORM_SECONDS
    while time.monotonic() < wanted and _sum(running, "SELECT count(*) FROM storm_counts"):
        time.sleep(1)
    recorded = _sum(running, "SELECT count(*) FROM anomalies WHERE rule_name = 'Noisy' AND kind = 'firing'")
    storms = "FROM anomalies WHERE rule_name = 'Noisy' AND kind = 'storm'"
    counted = _sum(running, f"SELECT COALESCE(sum((evidence->>'observed')::bigint), 0) {storms}")
    report.add(
        Line("firings of the noisy rule", "firings", [float(fired)]),
        Line("recorded anomalies", "anomalies", [float(recorded)]),
        Line("storm anomalies", "anomalies", [float(_sum(running, f"SELECT count(*) {storms}"))]),
        Line(
            "firings that are neither recorded nor counted",
            "firings",
            [float(abs(fired - recorded - counted))],
            at_most=0,
        ),
    )


class Phase:
    """Load at a fixed rate, with probes and a sample of the backlog every half second."""

    def __init__(self, running: System, terminal: Terminal, client: httpx.Client, first_probe: int) -> None:
        self.running, self.terminal, self.client = running, terminal, client
        self.probe = first_probe
        self.due: dict[int, float] = {}
        self.backlogs: list[int] = []
        self.ended = threading.Event()

    def run(self, per_second: float, seconds: float) -> dict[str, float]:
        """Return the figures of the phase, by name."""
        before, started = self._evaluated(), time.perf_counter()
        with self._threads():
            outcome = load_generator.drive(
                self.running.api, BATCH, seconds=seconds, rate=per_second / BATCH, connections=8
            )
            evaluated = (self._evaluated() - before) / (time.perf_counter() - started)
            at_end = self.running.backlog()
        time.sleep(2)  # the last alerts
        delays = [(self.terminal.seen[n] - due) * 1000 for n, due in self.due.items() if n in self.terminal.seen]
        return {
            "evaluated": evaluated,
            "backlog": max(self.backlogs),
            "at_end": at_end,
            "p95": statistics.quantiles(delays, n=20)[-1] if len(delays) > 1 else float("inf"),
            "missing": len(self.due) - len(delays),
            "rejected": sum(outcome.statuses.values()) - outcome.accepted,
        }

    @contextmanager
    def _threads(self) -> Iterator[None]:
        threads = [threading.Thread(target=work) for work in (self._post_probes, self._sample)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.ended.set()
            for thread in threads:
                thread.join()

    def _post_probes(self) -> None:
        started = time.perf_counter()
        while not self.ended.wait(max(0.0, started + len(self.due) / PROBES_PER_SECOND - time.perf_counter())):
            self.due[self.probe] = time.perf_counter()
            with suppress(httpx.HTTPError):  # the alert of a rejected probe counts as missing
                alert_latency.post(self.client, self.probe)
            self.probe += 1

    def _sample(self) -> None:
        while not self.ended.wait(0.5):
            self.backlogs.append(self.running.backlog())

    def _evaluated(self) -> int:
        """Return the number of evaluated events of the last hour, from the counters in Redis."""
        minute = int(time.time()) // 60
        keys = [f"eventpulse:counts:{minute - back}" for back in range(60)]
        return sum(int(self.running.redis.hget(key, "evaluated") or 0) for key in keys)


def _rule_id(client: httpx.Client) -> str:
    return next(str(rule["rule_id"]) for rule in client.get("/rules").json()["data"] if rule["name"] == "Noisy")


def _sum(running: System, query: str) -> int:
    """Return the number that a query returns, or 0 if the schema has no storms yet."""
    with running.servers.connection.cursor() as cursor:
        try:
            cursor.execute(query)
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn):
            return 0
        return int(next(cursor)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=5_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=30_000, help="number of events of a backlog")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=["drain", "live"], default=["drain", "live"])
    chosen = parser.parse_args()
    logs.configure("error", "console")
    report = Report()
    if "drain" in chosen.only:
        backlogged(report, chosen.events, chosen.rows, chosen.rounds)
    if "live" in chosen.only:
        live(report, chosen.rate, chosen.seconds, chosen.rows)


if __name__ == "__main__":
    main()

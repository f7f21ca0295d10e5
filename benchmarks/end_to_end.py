"""Benchmarks of the whole system: its real processes, with the load of `eventpulse.cli.load_generator`.

    .venv/bin/python benchmarks/end_to_end.py [--seconds 20] [--rounds 3] [--fsync always] [--only sustained …]

sustained  15,000 events/s in batches of 100 with ten rules: stored events, waiting messages, latency, CPU by unit
ceiling    the highest rate with a flat backlog
ingest     the highest rate of accepted events, by batch size, with the workers paused
single     requests of one event: latency at 1,000/s; the highest rate with workers running and paused
latency    time from the due time of a batch of 100 to its response, by offered rate
overload   three times the ceiling: goodput, latency, rejections, events that are accepted but not stored
scale      stored events per second under overload, by number of worker and API processes
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import Line, Report, Series, rounds
from system import System, system

from eventpulse.cli import load_generator

CONNECTIONS = 8
MANY = 32  # number of connections for requests of one event, and for overload
FLAT = 3_000  # maximum number of messages in a flat backlog at the end of a run: a fifth of a second of work
NO_MARK = {"EVENTPULSE_MAX_BACKLOG": "100000000"}


def offer(
    running: System, rate: float | None, seconds: float, batch: int = 100, connections: int = CONNECTIONS
) -> load_generator.Outcome:
    """Send `rate` events per second in total, and return the outcome.

    If `rate` is None, each connection sends a new request after each response.
    """
    per_second = rate / batch if rate else None
    return load_generator.drive(running.api, batch, seconds=seconds, rate=per_second, connections=connections)


def sustained(report: Report, fsync: str, seconds: float, count: int) -> None:
    with system(fsync) as running:
        offer(running, 15_000, 3)
        stored, waiting, p50, p95 = [], [], [], []
        cpu: dict[str, list[float]] = {}
        for _ in range(count):
            running.settle()
            before, rows, started = running.cpu_seconds(), running.servers.stored(), time.perf_counter()
            outcome = offer(running, 15_000, seconds)
            took = time.perf_counter() - started
            waiting.append(float(running.backlog()))
            added = running.servers.stored() - rows
            stored.append(added / took)
            p50.append(outcome.percentile(0.50))
            p95.append(outcome.percentile(0.95))
            for unit, used in running.cpu_seconds().items():
                cpu.setdefault(unit, []).append((used - before[unit]) / added * 1e6)
    # The bar is 1 % lower than the offered rate, because some events are still in progress at the end.
    report.add(
        Line(f"stored, of 15,000 events/s offered ({fsync})", "events/s", stored, at_least=14_850),
        Line(f"waiting at the end ({fsync})", "events", waiting, at_most=FLAT),
        Line(f"batch of 100 at 15,000 events/s, p50 ({fsync})", "ms", p50),
        Line(f"batch of 100 at 15,000 events/s, p95 ({fsync})", "ms", p95),
        *(Line(f"CPU at 15,000 events/s, {unit} ({fsync})", "µs/event", used) for unit, used in cpu.items()),
    )


def ceiling(report: Report, fsync: str, seconds: float) -> float:
    """Measure and return the highest rate with a flat backlog, in events/s."""
    best = 0.0
    with system(fsync) as running:
        offer(running, 15_000, 3)
        for rate in range(15_000, 40_001, 2_500):
            running.settle()
            outcome = offer(running, rate, seconds)
            waiting = running.backlog()
            if waiting > FLAT or outcome.accepted * 100 / outcome.seconds < rate * 0.98:
                break
            best = float(rate)
    report.add(
        Line(f"highest rate with a flat backlog, in steps of 2,500 ({fsync})", "events/s", [best], at_least=15_000)
    )
    return best


def ingest(report: Report, fsync: str, seconds: float, count: int) -> None:
    bars = {500: 80_000.0}
    points = []
    with system(fsync, **NO_MARK) as running:
        offer(running, 15_000, 2)
        running.settle()
        running.pause_workers()
        for batch in (1, 10, 50, 100, 500, 1_000):
            accepted = rounds(count, lambda batch=batch: _accepted(running, batch, seconds))
            points.append((float(batch), statistics.median(accepted)))
            if batch > 1:
                report.add(
                    Line(f"accepted, batches of {batch} ({fsync})", "events/s", accepted, at_least=bars.get(batch))
                )
    report.add(
        Series(f"accepted by batch size ({fsync})", "events a request", "events/s", {f"accepted, {fsync}": points})
    )


def _accepted(running: System, batch: int, seconds: float) -> float:
    outcome = offer(running, None, seconds, batch, CONNECTIONS if batch > 1 else MANY)
    running.redis.delete(*(f"eventpulse:persist{part}" for part in ("", ".msgs", ".count")))
    assert outcome.accepted == sum(outcome.statuses.values()), outcome.statuses
    return outcome.accepted * batch / outcome.seconds


def single(report: Report, fsync: str, seconds: float, count: int) -> None:
    with system(fsync, **NO_MARK) as running:
        offer(running, 500, 2, 1, MANY)
        outcomes = [offer(running, 1_000, seconds, 1, MANY) for _ in range(count)]
        report.add(
            Line(f"single POST at 1,000/s, p50 ({fsync})", "ms", [each.percentile(0.50) for each in outcomes]),
            Line(
                f"single POST at 1,000/s, p95 ({fsync})", "ms", [each.percentile(0.95) for each in outcomes], at_most=3
            ),
            Line(f"single POST at 1,000/s, p99 ({fsync})", "ms", [each.percentile(0.99) for each in outcomes]),
        )
        name, saturate = ("wrk", _wrk) if shutil.which("wrk") else ("eventpulse.cli.load_generator", _closed_loop)
        running.settle()
        with_workers = rounds(count, lambda: saturate(running, seconds))
        running.settle()
        running.pause_workers()
        alone = rounds(count, lambda: saturate(running, seconds))
        report.add(
            Line(f"single POST saturated, workers paused ({fsync})", "requests/s", alone, at_least=6_000, note=name),
            Line(
                f"single POST saturated, all of it stored and evaluated ({fsync})",
                "requests/s",
                with_workers,
                note=name,
            ),
        )


def _closed_loop(running: System, seconds: float) -> float:
    outcome = offer(running, None, seconds, 1, MANY)
    return outcome.accepted / outcome.seconds


def _wrk(running: System, seconds: float) -> float:
    """Return the requests/s of wrk, which uses less CPU than `load_generator`. Every request must succeed."""
    body = next(load_generator.requests(running.api, 1)).partition(b"\r\n\r\n")[2].decode()
    script = f"""
        wrk.method, wrk.body, wrk.headers["Content-Type"] = "POST", [[{body}]], "application/json"
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "post.lua"
        path.write_text(script)
        command = ["wrk", "-t1", f"-c{MANY}", f"-d{int(seconds)}s", "-s", str(path), f"{running.api}/events"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in output, output
    return float(next(line.split()[1] for line in output.splitlines() if line.startswith("Requests/sec")))


def latency(report: Report, fsync: str, seconds: float) -> None:
    p50, p95 = [], []
    with system(fsync) as running:
        offer(running, 5_000, 3)
        for rate in (1_000, 2_500, 5_000, 10_000, 15_000, 20_000, 25_000):
            running.settle()
            outcome = offer(running, rate, seconds)
            p50.append((float(rate), outcome.percentile(0.50)))
            p95.append((float(rate), outcome.percentile(0.95)))
    report.add(
        Series(
            "latency by offered load", "events/s offered, in batches of 100", "ms to the 202", {"p50": p50, "p95": p95}
        )
    )


def overload(report: Report, fsync: str, best: float, seconds: float = 60) -> None:
    """Offer three times the rate `best` in events/s, with a high-water mark of 2 * `best` messages."""
    with system(fsync, EVENTPULSE_MAX_BACKLOG=str(int(2 * best))) as running:
        offer(running, 15_000, 3)
        running.settle()
        rows, started = running.servers.stored(), time.perf_counter()
        outcome = offer(running, 3 * best, seconds, connections=MANY)
        during = running.servers.stored() - rows
        took = time.perf_counter() - started
        running.settle()
        stored = running.servers.stored() - rows
        after = offer(running, 1_000, 3)
    rejected = outcome.statuses[503] / sum(outcome.statuses.values())
    report.add(
        Line(
            "overload: accepted and not stored",
            "events",
            [float(outcome.accepted * 100 - stored)],
            at_least=0,
            at_most=0,
        ),
        Line("overload: goodput / best", "share", [during / took / best], at_least=0.80),
        Line("overload: accepted requests, p99 from when they were due", "ms", [outcome.percentile(0.99)]),
        Line("overload: rejected with 503", "share", [rejected]),
        Line("overload: other responses, or none", "requests", [float(_unexpected(outcome))], at_most=0),
        Line("after it, 1,000 events/s: rejected", "requests", [float(after.statuses[503])], at_most=0),
    )


def _unexpected(outcome: load_generator.Outcome) -> int:
    return sum(count for status, count in outcome.statuses.items() if status not in (202, 503))


def scale(report: Report, fsync: str, seconds: float) -> None:
    for workers, api_workers in ((1, 1), (1, 2), (2, 1), (2, 2), (4, 2)):
        with system(fsync, workers, api_workers, EVENTPULSE_MAX_BACKLOG="50000") as running:
            offer(running, 10_000, 2)
            rows, started = running.servers.stored(), time.perf_counter()
            offer(running, 40_000, seconds, connections=MANY)
            rate = (running.servers.stored() - rows) / (time.perf_counter() - started)
        name = f"stored of 40,000 events/s offered, {workers} workers, {api_workers} API processes ({fsync})"
        report.add(Line(name, "events/s", [rate]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fsync", choices=["always", "everysec"], default="always")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--ceiling", type=float, default=25_000, help="ceiling in events/s that `overload` uses")
    chosen = parser.parse_args()
    report, fsync, seconds, count = Report(), chosen.fsync, chosen.seconds, chosen.rounds
    parts: dict[str, Callable[[], object]] = {
        "sustained": lambda: sustained(report, fsync, seconds, count),
        "ceiling": lambda: ceiling(report, fsync, seconds),
        "ingest": lambda: ingest(report, fsync, seconds / 4, count),
        "single": lambda: single(report, fsync, seconds / 2, count),
        "latency": lambda: latency(report, fsync, seconds / 2),
        "overload": lambda: overload(report, fsync, chosen.ceiling, 3 * seconds),
        "scale": lambda: scale(report, fsync, seconds / 2),
    }
    for name in chosen.only or parts:
        parts[name]()


if __name__ == "__main__":
    main()

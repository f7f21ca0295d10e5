"""Comparison of two checkouts: runs the benchmarks alternately in both, and prints each median and the ratio.

    .venv/bin/python benchmarks/compare.py --base PATH [--head PATH] [--rounds 5] [--seconds 10] [--only backlog …]

Each checkout needs its own .venv and uses its own code and benchmarks. The order of the checkouts alternates between
rounds, so that other load on the machine affects both. A ratio above 1 means a larger figure in `--head`.
"""

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path

#: Names of the compared figures of each benchmark.
FIGURES = {
    "sustained": [
        "stored, of 15,000 events/s offered (always)",
        "batch of 100 at 15,000 events/s, p50 (always)",
        "batch of 100 at 15,000 events/s, p95 (always)",
    ],
    "backlog": ["persist a backlog, one process (always)", "evaluate a backlog, one process, ten rules (always)"],
    "ingest": ["accepted, batches of 500 (always)"],
    "single": [
        "single POST at 1,000/s, p95 (always)",
        "single POST saturated, workers paused (always)",
        "single POST saturated, all of it stored and evaluated (always)",
    ],
    "alerts": ["event posted → alert, p50 (always)", "event posted → alert, p95 (always)"],
}
#: Program that runs one benchmark without the peers, and prints its figures as JSON in the last line.
PROGRAM = """
import json, sys, types
from eventpulse import logs
from report import Report

peers = types.ModuleType("peers")
names = ["dramatiq", "streams", "celery"]
peers.measure = types.SimpleNamespace(PEERS=dict.fromkeys(names), drained=lambda *_, **__: 1.0)
sys.modules["peers"] = peers

import alert_latency, backlog, end_to_end

backlog.PEER_EVENTS = dict.fromkeys(names, 1)
name, seconds, report = sys.argv[1], float(sys.argv[2]), Report()
logs.configure("error", "console")
{
    "sustained": lambda: end_to_end.sustained(report, "always", seconds, 1),
    "backlog": lambda: backlog.measure(report, "always", int(6_000 * seconds), 1),
    "ingest": lambda: end_to_end.ingest(report, "always", seconds / 4, 1),
    "single": lambda: end_to_end.single(report, "always", seconds / 2, 1),
    "alerts": lambda: alert_latency.measure(report, "always", int(10 * seconds), 20),
}[name]()
print(json.dumps({line.name: line.median for line in report.lines}))
"""


def figures(checkout: Path, benchmark: str, seconds: float) -> dict[str, float]:
    """Run one benchmark in a checkout and return the medians of its figures by name."""
    environ = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "DATABASE_URL")}
    command = [str(checkout / ".venv" / "bin" / "python"), "-c", PROGRAM, benchmark, str(seconds)]
    process = subprocess.run(command, cwd=checkout / "benchmarks", env=environ, stdout=subprocess.PIPE, check=True)
    measured: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return measured


def compare(checkouts: dict[str, Path], benchmark: str, rounds: int, seconds: float) -> None:
    """Run one benchmark `rounds` times in each checkout and print a line for each figure."""
    values: dict[str, dict[str, list[float]]] = {
        name: {figure: [] for figure in FIGURES[benchmark]} for name in checkouts
    }
    for number in range(rounds):
        for name, checkout in sorted(checkouts.items(), reverse=bool(number % 2)):
            measured = figures(checkout, benchmark, seconds)
            for figure in FIGURES[benchmark]:
                values[name][figure].append(measured[figure])
    for figure in FIGURES[benchmark]:
        base, head = (statistics.median(values[name][figure]) for name in ("base", "head"))
        spread = " ".join(
            f"{name} {min(values[name][figure]):.4g} to {max(values[name][figure]):.4g}" for name in ("base", "head")
        )
        print(f"{figure:66} {base:12,.2f} {head:12,.2f} {head / base:7.3f}  ({spread})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--head", type=Path, default=Path(__file__).parent.parent)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES))
    chosen = parser.parse_args()
    print(f"{'figure':66} {'base':>12} {'head':>12} {'ratio':>7}")
    for benchmark in chosen.only:
        compare({"base": chosen.base, "head": chosen.head}, benchmark, chosen.rounds, chosen.seconds)


if __name__ == "__main__":
    main()

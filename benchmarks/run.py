"""Command that runs all benchmarks, prints each figure with its bar, saves a JSON report, and draws the plots.

make bench                                                             all of them, about 35 minutes
.venv/bin/python benchmarks/run.py --quick --save /tmp/quick.json      short runs, to check the benchmarks themselves
"""

import argparse
from pathlib import Path

import alert_latency
import backlog
import end_to_end
import growth
import memory
import neighbours_many_rules
import one_redis
import plots
import rules_cost
from report import Report

from eventpulse import logs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs; their figures are not meaningful")
    parser.add_argument("--save", type=Path, default=Path("docs/performance.json"))
    chosen = parser.parse_args()
    logs.configure("error", "console")
    seconds, rounds, events, rows = (3, 1, 10_000, 200_000) if chosen.quick else (20, 3, 60_000, 10_000_000)
    report = Report()
    for fsync in ("always", "everysec"):
        end_to_end.sustained(report, fsync, seconds, rounds)
        best = end_to_end.ceiling(report, fsync, seconds)
        end_to_end.ingest(report, fsync, seconds / 4, rounds)
        end_to_end.single(report, fsync, seconds / 2, rounds)
        backlog.measure(report, fsync, events, rounds)
        alert_latency.measure(report, fsync, 10 * seconds, 20)
        if fsync == "always":
            end_to_end.overload(report, fsync, best, 3 * seconds)
    end_to_end.latency(report, "always", seconds / 2)
    end_to_end.scale(report, "always", seconds / 2)
    one_redis.measure(report, "always", events, rounds)
    rules_cost.measure(report, rounds=2 * rounds + 1)
    neighbours_many_rules.measure(report, rounds=rounds)
    memory.measure(report, events=rows // 10)
    growth.measure(report, rows, rounds=3 * rounds)
    settings = {"seconds": seconds, "rounds": rounds, "events": events, "rows": rows, "batch": 100}
    report.save(chosen.save, settings)
    for path in plots.draw_all(chosen.save, chosen.save.parent / "plots"):
        print(path)
    missed = [line.name for line in report.lines if line.reached is False]
    print(f"{len(report.lines)} figures; {len(missed)} bars missed{':' if missed else ''} {', '.join(missed)}")


if __name__ == "__main__":
    main()

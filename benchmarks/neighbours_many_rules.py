"""Benchmark of `evaluate` beside many rules that match every event.

    .venv/bin/python benchmarks/neighbours_many_rules.py [--events 20000] [--rounds 3]

Each round queues the events and drains `evaluate` in one process: with the ten rules of backlog.py, of which each event
matches one, and with 300 further rules of ten scopes that match every event. The rules differ in limit and window. In
one set no rule fires; in the other set the condition of each rule is true for nearly every event, and its cooldown
suppresses all anomalies except the first of each group. The rates are in events per second, the shares relative to the
rate without the 300 rules in the same round.
"""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline import accept, drain, make, rate, write_rules
from report import Line, Report
from servers import Servers, servers

from actors import runtime
from eventpulse import logs
from eventpulse.settings import ConnectedSettings
from models import database
from models.rule import Rule

SCOPES: list[dict[str, Any]] = [
    {"filters": filters, "group_by": group_by}
    for filters in ({}, {"payload.currency": "EUR"}, {"metadata.region": ["eu-west", "eu-east"]})
    for group_by in ([], ["source"], ["event_type"])
] + [{"filters": {"event_type": [f"bench.step-{number}" for number in range(10)]}, "group_by": ["source"]}]
RULES = 300
#: Time between two events, so that a window of 30 s has 6,000 of them.
STEP = timedelta(milliseconds=5)
#: Events before the measured ones, which fill the windows and cause the first anomalies.
WARM_UP = 2_000
SHARE = 0.3  # least share of the rate without the 300 rules


def rules(limit: int, step: int, window_seconds: int) -> Iterator[dict[str, Any]]:
    """Yield rules for more than `limit` events, and for `step` more events and another second for each next rule."""
    for number in range(RULES):
        place = number // len(SCOPES)
        condition = SCOPES[number % len(SCOPES)] | {"type": "threshold", "operator": ">", "value": limit + step * place}
        yield {
            "name": f"Rule {number}",
            "severity": "info",
            "window_seconds": window_seconds + place,
            "cooldown_seconds": 3_600,
            "allowed_lateness_seconds": 3_600,
            "condition": condition,
        }


#: Rules of each set in addition to the ten: none, rules that do not fire, and rules whose conditions are true for
#: nearly every event.
SETS: dict[str, list[dict[str, Any]]] = {
    "without": [],
    "none fires": list(rules(9_000, 30, 1)),
    "all fire": list(rules(0, 1, 60)),
}


def drained(own: Servers, chosen: list[dict[str, Any]], events: int) -> float:
    """Return the rate of `evaluate` with these rules."""
    own.empty()
    with database.connection():
        Rule.delete().execute()
        for each in chosen:
            Rule.add(**each)
    write_rules()
    at = datetime.now(UTC) - (WARM_UP + events) * STEP
    for count in (WARM_UP, events):
        accept(make(count, at, STEP))
        at += count * STEP
        drain("persist")
        measured = rate(count, lambda: drain("evaluate"))
    return measured


def measure(report: Report, count: int = 20_000, rounds: int = 3) -> None:
    with servers() as own:
        runtime.setup(ConnectedSettings(redis_url=own.redis_url, database_url=own.database_url))
        results = [{name: drained(own, chosen, count) for name, chosen in SETS.items()} for _ in range(rounds)]
    for name in SETS:
        report.add(Line(f"evaluate, 300 rules that match all, {name}", "events/s", [each[name] for each in results]))
    for name in list(SETS)[1:]:
        shares = [each[name] / each["without"] for each in results]
        report.add(Line(f"evaluate, 300 rules that match all, {name}", "share", shares, at_least=SHARE))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    logs.configure("error", "console")
    measure(Report(), chosen.events, chosen.rounds)

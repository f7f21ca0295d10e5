"""Benchmark of the evaluate stage, by the number of existing rules and the number of matching rules.

    .venv/bin/python benchmarks/rules_cost.py [--rounds 7] [--events 10000]

Runs `rules.engine.evaluate` on batches of 500 prepared events, with windows in a real Redis, and reports the wall
time in µs per event. Each round runs all sets of rules, so that other load on the machine affects all sets.
"Python alone" is the time with a window that returns no results. Windows are full, as in production, and no rule fires.
"""

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from report import Line, Report, Series
from servers import servers
from uuid_utils.compat import uuid7

from actors.rule_state.windows.redis_windows import RedisWindow
from eventpulse import logs
from rules.engine.evaluate import evaluate_batch
from rules.engine.index import RuleSet
from rules.event import Event
from rules.rule import Rule, parse_rule
from rules.windows.queries import CooldownClaim, Window, WindowResult, WindowUpdate

TYPES, SOURCES, BATCH = 10, 20, 500
#: Time between two events, so that a window has 50 events of each source, fewer than a rule needs to fire.
STEP = timedelta(milliseconds=10)
WINDOW_SECONDS, LIMIT = 10, 60
#: Number of events after which all windows have their final size.
WARM_UP = 8_000
#: Sets of rules by the label of their curve. Each pair is (number of matching rules, number of existing rules).
SETS = {"none match": [(0, 0)], "one matches": [(1, 10)], "ten match": [(10, 10), (10, 100), (10, 1_000)]}


class NoWindow:
    """Window that stores nothing and returns no results."""

    def observe(self, _updates: Sequence[WindowUpdate]) -> list[WindowResult]:
        return []

    def check_cooldowns(self, claims: Sequence[CooldownClaim]) -> list[list[int]]:
        return [[] for _ in claims]

    def start_cooldowns(self, _claims: Sequence[CooldownClaim]) -> None:
        return


def rules(matching: int, existing: int) -> RuleSet:
    """Return `existing` rules, of which `matching` match every event.

    The other rules filter by a type, a source or a payload value that no event has, a third of the rules each.
    """
    others: tuple[dict[str, Any], ...]
    made = [rule({} if number % 2 else {"metadata.region": "eu-west"}) for number in range(matching)]
    for number in range(existing - matching):
        kind = f"order.step-{number % TYPES}"
        others = (
            {"event_type": f"refund.step-{number}"},
            {"source": f"depot-{number}"},
            {"event_type": kind, "payload.currency": f"X{number}"},
        )
        made.append(rule(others[number % len(others)]))
    return RuleSet(made)


def rule(filters: dict[str, Any]) -> Rule:
    condition = {
        "type": "threshold",
        "filters": filters,
        "group_by": ["source"],
        "operator": ">",
        "value": LIMIT,
    }
    row = {"name": "Rule", "severity": "info", "window_seconds": WINDOW_SECONDS, "condition": condition}
    return parse_rule(row | {"rule_id": uuid7(), "version": 1})


def traffic() -> Iterator[list[Event]]:
    """Yield an unlimited number of batches of events; consecutive events are `STEP` apart."""
    at, number = datetime.now(UTC), 0
    payload = {"order": 123_456, "amount": 42.5, "currency": "EUR"}
    while True:
        batch = []
        for _ in range(BATCH):
            at, number = at + STEP, number + 1
            kind, source = f"order.step-{number % TYPES}", f"shop-{number // TYPES % SOURCES:02d}"
            batch.append(Event(str(uuid7()), kind, source, at, payload, {"region": "eu-west"}, at))
        yield batch


def cost(batches: list[list[Event]], ruleset: RuleSet, window: Window) -> float:
    """Evaluate the batches and return the wall time in µs per event."""
    started = time.perf_counter()
    for batch in batches:
        found = evaluate_batch(batch, ruleset, window)
        assert not any((found.firings, found.faults, found.late))
    return (time.perf_counter() - started) * 1e6 / (len(batches) * BATCH)


def measure(report: Report, rounds: int = 7, events: int = 10_000) -> None:
    """Measure the evaluation of `events` events with each set of rules, in each round."""
    sets = {(label, existing): rules(each, existing) for label, kind in SETS.items() for each, existing in kind}
    costs: dict[tuple[str, int], list[float]] = {known: [] for known in sets}
    python: dict[tuple[str, int], list[float]] = {known: [] for known in sets}
    coming = traffic()
    with servers() as own, redis.Redis.from_url(own.redis_url) as client:
        window = RedisWindow(client)
        warm_up = [next(coming) for _ in range(WARM_UP // BATCH)]
        for ruleset in sets.values():
            cost(warm_up, ruleset, window)
        for number in range(rounds):
            batches = [next(coming) for _ in range(events // BATCH)]
            for known in sorted(sets, reverse=bool(number % 2)):
                costs[known].append(cost(batches, sets[known], window))
                python[known].append(cost(batches, sets[known], NoWindow()))
    for (label, existing), found in costs.items():
        report.add(Line(f"evaluate, {existing:,} rules, {label}", "µs/event", found))
        report.add(Line(f"evaluate, {existing:,} rules, {label}: Python alone", "µs/event", python[label, existing]))
    ratios = [many / few for many, few in zip(costs["ten match", 1_000], costs["ten match", 10], strict=True)]
    report.add(Line("evaluate, 1,000 rules / 10 rules, ten match", "ratio", ratios, at_most=1.3))
    points: dict[str, list[tuple[float, float]]] = {}
    for suffix, found_by in (("", costs), (", Python alone", python)):
        for (label, existing), found in found_by.items():
            points.setdefault(label + suffix, []).append((existing, statistics.median(found)))
    report.add(Series("rules", "rules", "µs per event", points))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=int, default=10_000)
    logs.configure("error", "console")
    measure(Report(), **vars(parser.parse_args()))

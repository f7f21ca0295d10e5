"""Benchmark of the CPU time of Redis per event, and of the bytes per event in Redis and PostgreSQL.

    .venv/bin/python benchmarks/one_redis.py [--events 100000] [--rounds 3] [--fsync always]

Each round queues the events in batches of 100 as the API does, and drains `persist` and `evaluate` in one process:
without rules, then with 1, 3 and 10 rules that match every event. Only the CPU time of Redis is counted; Redis has one
thread, so its capacity is one CPU second per second. Each rule groups by type and source, so that a batch of 500 events
uses 200 windows. Two more cases, each with one rule, use 20 windows per batch and one window per event.

The servers report the bytes per event: into and out of Redis, its append-only file, its memory for a waiting event, the
write-ahead log of PostgreSQL, and the table with its indexes.
"""

import argparse
from collections.abc import Sequence

from pipeline import accept, drain, make
from report import Line, Report
from servers import Servers, servers

from actors import runtime
from actors.broker import broker
from actors.rule_state import rulebook
from actors.transport.queues import depths
from eventpulse import logs
from eventpulse.settings import ConnectedSettings
from models import database
from models.rule import Rule

#: Values of `group_by`, by the number of windows that a batch of 500 events uses.
BY = {
    "200 windows per batch": ["event_type", "source"],
    "20 windows per batch": ["source"],
    "one window per event": ["payload.order"],
}
#: Cases: the number of rules that match every event, and a key of `BY`.
CASES = [
    (0, "200 windows per batch"),
    (1, "200 windows per batch"),
    (3, "200 windows per batch"),
    (10, "200 windows per batch"),
]
CASES += [(1, "20 windows per batch"), (1, "one window per event")]


def write_rules(count: int, group_by: Sequence[str]) -> None:
    """Replace all rules with `count` rules that match every event and never fire."""
    condition = {"type": "threshold", "group_by": list(group_by), "operator": ">", "value": 10_000}
    with database.connection():
        for rule in Rule.select():
            rule.remove()
        for number in range(count):
            Rule.add(
                name=f"All {number}",
                severity="info",
                window_seconds=5,
                cooldown_seconds=60,
                allowed_lateness_seconds=3600,
                condition=condition,
            )
    rulebook.publish()


def one_case(own: Servers, count: int, rules: int, by: str) -> dict[str, float]:
    """Return the CPU time of Redis in µs per event, for accept and persist together, and for all stages."""
    own.empty()
    write_rules(rules, BY[by])
    events = make(count)
    started = own.redis_cpu_seconds()
    accept(events)
    drain("persist")
    queued = own.redis_cpu_seconds()
    drain("evaluate")
    ended = own.redis_cpu_seconds()
    assert own.stored() == count
    assert not any(state.depth or state.dead for state in depths(broker).values())
    per_event = 1e6 / count
    return {"accept and persist": (queued - started) * per_event, "all": (ended - started) * per_event}


def weights(own: Servers, count: int) -> dict[str, float]:
    """Return the bytes per event by name of the figure, measured with one rule."""
    own.empty()
    write_rules(1, BY["200 windows per batch"])
    events = make(count)
    client = broker.client
    client.config_set("auto-aof-rewrite-percentage", 0)
    before, log_before, table_before = client.info(), _log_bytes(own), _table_bytes(own)
    accept(events)
    waiting = client.info()
    drain("persist")
    drain("evaluate")
    after = client.info()
    totals = {
        "its JSON, with id and time": float(sum(map(len, events))),
        "memory of Redis while it waits": waiting["used_memory"] - before["used_memory"],
        "into Redis to be accepted": waiting["total_net_input_bytes"] - before["total_net_input_bytes"],
        "into Redis, in total": after["total_net_input_bytes"] - before["total_net_input_bytes"],
        "out of Redis, in total": after["total_net_output_bytes"] - before["total_net_output_bytes"],
        "append-only file": after["aof_current_size"] - before["aof_current_size"],
        "write-ahead log": _log_bytes(own) - log_before,
        "table and indexes": _table_bytes(own) - table_before,
    }
    return {name: value / count for name, value in totals.items()}


def _log_bytes(own: Servers) -> float:
    return _query(own, "SELECT pg_current_wal_lsn() - '0/0'")


def _table_bytes(own: Servers) -> float:
    return _query(own, "SELECT pg_total_relation_size('events')")


def _query(own: Servers, query: str) -> float:
    with own.connection.cursor() as cursor:
        cursor.execute(query)
        return float(next(cursor)[0])


def measure(report: Report, fsync: str, count: int, rounds: int) -> None:
    with servers(fsync) as own:
        runtime.setup(ConnectedSettings(redis_url=own.redis_url, database_url=own.database_url))
        one_case(own, count // 10, 1, "20 windows per batch")  # warm-up
        cases = [[one_case(own, count, *case) for case in CASES] for _ in range(rounds)]
        sizes = [weights(own, count) for _ in range(rounds)]
    for (rules, by), *results in zip(CASES, *cases, strict=True):
        name = f"{rules} rules matching, {by}" if rules else "the queues alone"
        costs = [each["all"] for each in results]
        if not rules:
            accepted = [each["accept and persist"] for each in results]
            report.add(Line(f"Redis' CPU, accept and persist ({fsync})", "µs/event", accepted))
        report.add(Line(f"Redis' CPU, {name} ({fsync})", "µs/event", costs))
        report.add(Line(f"one Redis carries, {name} ({fsync})", "events/s", [1e6 / cost for cost in costs]))
    for name in sizes[0]:
        report.add(Line(f"{name} ({fsync})", "bytes/event", [each[name] for each in sizes]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fsync", choices=["always", "everysec"], default="always")
    chosen = parser.parse_args()
    logs.configure("error", "console")
    measure(Report(), chosen.fsync, chosen.events, chosen.rounds)


if __name__ == "__main__":
    main()

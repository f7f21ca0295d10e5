"""What one event costs the one Redis of a cell, and what it weighs on its way.

    .venv/bin/python benchmarks/one_redis.py [--events 100000] [--rounds 3] [--fsync always]

Each round queues the events in batches of 100 as the API does, and drains `persist` and `evaluate` in one process:
without rules, then with 1, 3 and 10 rules that each match every event. The CPU is that of Redis alone; Redis does all
its work in one thread, so a second of it is what there is. Each rule counts by type and source: a batch of 500 events
touches 200 of its windows. Beside it one rule of 20 windows, and one of a window for each event.

What an event weighs is counted by the servers themselves: bytes into and out of Redis, its append-only file, its memory
for an event that waits, PostgreSQL's write-ahead log, and the table with its indexes.
"""

import argparse
from collections.abc import Sequence

from backlog import accept, drain, make
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

#: By what a rule counts, and what that means for a batch of 500 of the events that `make` makes.
BY = {
    "200 windows a batch": ["event_type", "source"],
    "20 windows a batch": ["source"],
    "a window an event": ["payload.order"],
}
#: How many rules match every event, and by what they count.
CASES = [
    (0, "200 windows a batch"),
    (1, "200 windows a batch"),
    (3, "200 windows a batch"),
    (10, "200 windows a batch"),
]
CASES += [(1, "20 windows a batch"), (1, "a window an event")]


def write_rules(count: int, group_by: Sequence[str]) -> None:
    """Replace all rules by so many that match every event, and fire for none."""
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
    """Redis' CPU, in µs an event, of the queues and of all."""
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
    """Bytes an event, with one rule."""
    own.empty()
    write_rules(1, BY["200 windows a batch"])
    events = make(count)
    client = broker.client
    client.config_set("auto-aof-rewrite-percentage", 0)
    before, log_before, table_before = client.info(), _log_bytes(own), _table_bytes(own)
    accept(events)
    waiting = client.info()
    drain("persist")
    drain("evaluate")
    after = client.info()
    found = {
        "its JSON, with id and time": float(sum(map(len, events))),
        "memory of Redis while it waits": waiting["used_memory"] - before["used_memory"],
        "into Redis to be accepted": waiting["total_net_input_bytes"] - before["total_net_input_bytes"],
        "into Redis, in all": after["total_net_input_bytes"] - before["total_net_input_bytes"],
        "out of Redis, in all": after["total_net_output_bytes"] - before["total_net_output_bytes"],
        "append-only file": after["aof_current_size"] - before["aof_current_size"],
        "write-ahead log": _log_bytes(own) - log_before,
        "table and indexes": _table_bytes(own) - table_before,
    }
    return {name: value / count for name, value in found.items()}


def _log_bytes(own: Servers) -> float:
    return _ask(own, "SELECT pg_current_wal_lsn() - '0/0'")


def _table_bytes(own: Servers) -> float:
    return _ask(own, "SELECT pg_total_relation_size('events')")


def _ask(own: Servers, question: str) -> float:
    with own.connection.cursor() as cursor:
        cursor.execute(question)
        return float(next(cursor)[0])


def measure(report: Report, fsync: str, count: int, how_often: int) -> None:
    with servers(fsync) as own:
        runtime.setup(ConnectedSettings(redis_url=own.redis_url, database_url=own.database_url))
        one_case(own, count // 10, 1, "20 windows a batch")  # to warm up
        cases = [[one_case(own, count, *case) for case in CASES] for _ in range(how_often)]
        weighed = [weights(own, count) for _ in range(how_often)]
    for (rules, by), *found in zip(CASES, *cases, strict=True):
        name = f"{rules} rules matching, {by}" if rules else "the queues alone"
        costs = [each["all"] for each in found]
        if not rules:
            accepted = [each["accept and persist"] for each in found]
            report.add(Line(f"Redis' CPU, accept and persist ({fsync})", "µs/event", accepted))
        report.add(Line(f"Redis' CPU, {name} ({fsync})", "µs/event", costs))
        report.add(Line(f"one Redis carries, {name} ({fsync})", "events/s", [1e6 / cost for cost in costs]))
    for name in weighed[0]:
        report.add(Line(f"{name} ({fsync})", "bytes/event", [each[name] for each in weighed]))


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

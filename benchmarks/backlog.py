"""Benchmark of `persist` and `evaluate` with a backlog, compared with other systems and with the servers alone.

    .venv/bin/python benchmarks/backlog.py [--events 60000] [--rounds 3] [--fsync always]

Each round queues the events in batches of 100, as the API does, and drains `persist`, then `evaluate` with ten rules,
in one process; each event matches one rule. For comparison, the round stores the same number of rows without a queue
(the limit of the table) and pushes the same number of messages to a Redis list, 500 per pipeline (the limit of Redis).
Each peer drains its own backlog into the same table. The rates are in events per second.
"""

import argparse
from typing import Any

import redis
from peers import measure as peers
from pipeline import accept, drain, make, rate, write_rules
from report import Line, Report
from servers import Servers, servers

from actors import runtime
from actors.broker import broker
from actors.rule_state import rulebook
from eventpulse import logs
from eventpulse.settings import ConnectedSettings
from models import database
from models.event import Event

#: Number of events for each peer, enough for a few seconds. The rate does not depend on the number of events.
PEER_EVENTS = {"dramatiq": 6_000, "streams": 4_000, "celery": 2_000}


def store(events: list[bytes]) -> None:
    with database.connection():
        for start in range(0, len(events), 500):
            Event.store(events[start : start + 500])


def push(client: "redis.Redis", events: list[bytes]) -> None:
    for start in range(0, len(events), 500):
        with client.pipeline(transaction=False) as pipeline:
            for event in events[start : start + 500]:
                pipeline.rpush("bench", event)
            pipeline.execute()


def one_round(own: Servers, count: int) -> dict[str, float]:
    own.empty()
    rulebook.publish()
    events = make(count)
    rates = {"accept": rate(count, lambda: accept(events))}
    rates["persist"] = rate(count, lambda: drain("persist"))
    rates["evaluate"] = rate(count, lambda: drain("evaluate"))
    own.empty()
    rates["table"] = rate(count, lambda: store(events))
    rates["redis"] = rate(count, lambda: push(broker.client, events))
    for name, peer in peers.PEERS.items():
        rates[name] = peers.drained(own, peer, make(PEER_EVENTS[name]), at_most_seconds=10)
    return rates


def measure(report: Report, fsync: str, count: int, rounds: int) -> None:
    with servers(fsync) as own:
        runtime.setup(ConnectedSettings(redis_url=own.redis_url, database_url=own.database_url))
        write_rules()
        results = [one_round(own, count) for _ in range(rounds)]
    values: dict[str, list[float]] = {name: [each[name] for each in results] for name in results[0]}

    def ratio(name: str, other: str) -> list[float]:
        return [each[name] / each[other] for each in results]

    bars: dict[str, Any] = {"persist": {"at_least": 30_000}}
    names = {
        "accept": "queue a request of 100, without HTTP",
        "persist": "persist a backlog, one process",
        "evaluate": "evaluate a backlog, one process, ten rules",
        "table": "the table's own limit, one connection, batches of 500",
        "redis": "Redis' own limit, RPUSH of one event each, 500 per pipeline",
        "dramatiq": "stock Dramatiq, one INSERT per message, prefetch 200",
        "streams": "Redis Streams, XREADGROUP 100, XACK one by one",
        "celery": "Celery, one task per event, two processes",
    }
    for name, text in names.items():
        report.add(Line(f"{text} ({fsync})", "events/s", values[name], **bars.get(name, {})))
    report.add(
        Line(f"persist / stock Dramatiq ({fsync})", "times", ratio("persist", "dramatiq"), at_least=10),
        Line(f"persist / Redis Streams consumer ({fsync})", "times", ratio("persist", "streams"), at_least=10),
        Line(f"persist / Celery ({fsync})", "times", ratio("persist", "celery"), at_least=10),
        Line(f"persist / the table's own limit ({fsync})", "share", ratio("persist", "table"), at_least=0.5),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fsync", choices=["always", "everysec"], default="always")
    chosen = parser.parse_args()
    logs.configure("error", "console")
    measure(Report(), chosen.fsync, chosen.events, chosen.rounds)


if __name__ == "__main__":
    main()

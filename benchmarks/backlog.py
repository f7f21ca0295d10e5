"""How fast events are accepted, and a backlog of them is stored and evaluated by one worker process.

    .venv/bin/python benchmarks/backlog.py [--events 60000] [--rounds 3]

Starts a Redis (`appendfsync always`) and a PostgreSQL of its own. Each round queues the events in batches of
100 as the API does, drains `persist` and then `evaluate` with ten rules, of which one matches each event, and
stores as many rows by the very same statement without any queue: the limit of the table. Prints the median
of the rounds in events per second, Redis' bytes per queued event, and persist as a share of the limit.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dramatiq
import msgspec
from uuid_utils.compat import uuid7

import actors
from actors import ingest, rulebook
from eventpulse import embedded, logs
from eventpulse.settings import Settings
from models import database, migrations
from models.event import Event
from models.rule import Rule

BATCH = 100


def make(count: int) -> list[bytes]:
    now = datetime.now(UTC)
    event: dict[str, Any] = {
        "event_type": "order",
        "source": "shop",
        "timestamp": now,
        "payload": {"amount": 12.5, "currency": "EUR", "items": [1, 2, 3]},
        "metadata": {"region": "eu"},
        "received_at": now,
    }
    return [msgspec.json.encode({"event_id": uuid7(), **event}) for _ in range(count)]


def rate(count: int, work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def drain(queue_name: str) -> None:
    worker = dramatiq.Worker(actors.broker, queues={queue_name}, worker_threads=2, worker_timeout=100)
    worker.start()
    while actors.broker.client.exists(f"{actors.broker.namespace}:{queue_name}.msgs"):
        time.sleep(0.005)
    worker.stop()


def accept(events: list[bytes]) -> None:
    for start in range(0, len(events), BATCH):
        ingest.accept(events[start : start + BATCH], None)


def store(events: list[bytes]) -> None:
    with database.connection():
        for start in range(0, len(events), 500):
            Event.store(events[start : start + 500])


def write_rules() -> None:
    for number in range(10):
        filters = {"event_type": "order" if number == 0 else f"other-{number}"}
        condition = {"type": "threshold", "filters": filters, "group_by": ["source"], "operator": ">", "value": 5}
        with database.connection():
            Rule.add(
                name=f"Rule {number}",
                severity="info",
                window_seconds=60,
                cooldown_seconds=300,
                allowed_lateness_seconds=3600,
                condition=condition,
            )
    rulebook.publish()


def one_round(count: int) -> dict[str, float]:
    client = actors.broker.client
    empty = client.info("memory")["used_memory"]
    events = make(count)
    figures = {"accept": rate(count, lambda: accept(events))}
    figures["bytes"] = (client.info("memory")["used_memory"] - empty) / count
    figures["persist"] = rate(count, lambda: drain("persist"))
    figures["evaluate"] = rate(count, lambda: drain("evaluate"))
    others = make(count)
    figures["limit"] = rate(count, lambda: store(others))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logs.configure("error", "console")
    with tempfile.TemporaryDirectory(prefix="eventpulse-benchmark-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user
        redis_server = embedded.start_redis(Path(folder) / "redis")
        postgres_server = embedded.start_postgres(Path(folder) / "postgres")
        try:
            actors.setup(Settings(redis_url=redis_server.url, database_url=postgres_server.url))
            migrations.up()
            write_rules()
            rounds = [one_round(options.events) for _ in range(options.rounds)]
        finally:
            database.database.close_all()
            redis_server.stop()
            postgres_server.stop()
    median = {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}
    print(f"accept, batches of {BATCH}    {median['accept']:8,.0f} events/s, {median['bytes']:.0f} bytes in Redis each")
    share = median["persist"] / median["limit"]
    print(f"persist, one process     {median['persist']:8,.0f} events/s, {share:.0%} of the table's limit")
    print(f"evaluate, one process    {median['evaluate']:8,.0f} events/s, ten rules, one matching")
    print(f"the table's limit        {median['limit']:8,.0f} events/s, batches of 500, no queue")


if __name__ == "__main__":
    main()

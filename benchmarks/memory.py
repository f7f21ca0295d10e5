"""Benchmark of the memory of a worker over time, and of the memory of a queued event in Redis.

    .venv/bin/python benchmarks/memory.py [--events 1000000] [--queued 100000]

A real worker process stores and evaluates the events, with ten rules; each event matches one rule. The benchmark
samples the resident size of the process, and queues events in batches of 100, as the API does; at most `AHEAD` events
are unfinished. The bytes in Redis are the growth of `used_memory` without a worker, for batches of 100 and for single
events.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psutil
from report import Line, Report, Series
from servers import Servers, servers
from uuid_utils.compat import uuid7

from actors import runtime
from actors.broker import broker
from actors.pipeline import ingest
from actors.rule_state import rulebook
from eventpulse import logs
from eventpulse.settings import ConnectedSettings
from models import database
from models.rule import Rule

TYPES, SOURCES, BATCH = 10, 20, 100
#: Limit of the rules, which fire after about 50,000 events. The compared samples are later, so that memory for the
#: first notification does not count as growth.
ENOUGH_TO_FIRE = 250
AHEAD = 20_000  # maximum number of queued and leased events
SAMPLES = 20
LONGEST_SECONDS = 600
STOP_SECONDS = 10
EVENT = (
    b'{"event_id":"%b","event_type":"order.step-%d","source":"shop-%02d","timestamp":"%b",'
    b'"payload":{"order":%d,"amount":42.5,"currency":"EUR"},"metadata":{"region":"eu-west"}'
)
RECEIVED = b',"received_at":"%b"}'


def encoded(start: int, count: int) -> list[bytes]:
    """Return `count` events as the API queues them: the JSON of the client, with id and arrival time."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()
    return [
        EVENT % (str(uuid7()).encode(), number % TYPES, number // TYPES % SOURCES, now, number) + RECEIVED % now
        for number in range(start, start + count)
    ]


def write_rules() -> None:
    """Create one rule for each event type; each rule fires once in ten minutes for each source."""
    spans = {"window_seconds": 10, "cooldown_seconds": 600, "allowed_lateness_seconds": 3600}
    many = {"type": "threshold", "group_by": ["source"], "operator": ">", "value": ENOUGH_TO_FIRE}
    with database.connection():
        for number in range(TYPES):
            condition = many | {"filters": {"event_type": f"order.step-{number}"}}
            Rule.add(name=f"Rule {number}", severity="info", condition=condition, **spans)
    rulebook.publish()


def unfinished() -> int:
    """Return the number of events that are queued or leased."""
    counts = broker.client.mget("eventpulse:persist.count", "eventpulse:evaluate.count")
    return sum(int(count or 0) for count in counts)


@contextmanager
def worker(own: Servers) -> Iterator[psutil.Process]:
    """Run a real worker process during the block."""
    command = [sys.executable, "-m", "eventpulse", "worker"]
    process = subprocess.Popen(command, env=own.environ() | {"LOG_LEVEL": "warning"}, stdout=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def resident(own: Servers, count: int) -> list[tuple[float, float]]:
    """Return (processed events, MiB of the worker) after each twentieth of `count` events. Raises `TimeoutError`."""
    points: list[tuple[float, float]] = []
    deadline = time.monotonic() + LONGEST_SECONDS
    queued = 0
    with worker(own) as process:
        for sample in range(1, SAMPLES + 1):
            until = count * sample // SAMPLES
            while (done := queued - unfinished()) < until:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{done} of {count} events after {LONGEST_SECONDS} s")
                if queued < count and queued - done <= AHEAD - BATCH:
                    ingest.accept(encoded(queued, BATCH), None)
                    queued += BATCH
                else:
                    time.sleep(0.01)
            points.append((until, process.memory_info().rss / 2**20))
    return points


def redis_bytes(own: Servers, count: int, batch: int) -> float:
    """Return the bytes in Redis per queued event, measured with `count` events in batches of `batch`."""
    own.empty()
    before = broker.client.info("memory")["used_memory"]
    for start in range(0, count, batch):
        ingest.accept(encoded(start, batch), None)
    return float(broker.client.info("memory")["used_memory"] - before) / count


def measure(report: Report, events: int = 1_000_000, queued: int = 100_000) -> None:
    """Measure the memory of Redis with `queued` events, then of a worker that processes `events` events."""
    with servers() as own:
        runtime.setup(ConnectedSettings(redis_url=own.redis_url, database_url=own.database_url))
        redis_bytes(own, BATCH, BATCH)  # load the scripts into Redis, so that their memory is not counted
        (event,) = encoded(queued // 2, 1)
        json = len(event.partition(RECEIVED[:15])[0] + b"}")
        for batch in (BATCH, 1):
            name, size = f"Redis, each queued event, batches of {batch}", redis_bytes(own, queued, batch)
            report.add(Line(name, "bytes", [size], at_most=1.5 * json + 200, note=f"its JSON: {json}"))
        own.empty()
        write_rules()
        points = resident(own, events)
        assert own.stored() == events
    report.add(Series("memory", "events", "MiB", {"one worker": points}))
    (early, first), (end, last) = points[SAMPLES // 10 - 1], points[-1]
    report.add(Line(f"worker's memory after {early:,} events", "MiB", [first]))
    report.add(Line(f"worker's memory after {end:,} events", "MiB", [last]))
    report.add(Line(f"worker's memory after {end:,} events / {early:,}", "ratio", [last / first], at_most=1.10))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--queued", type=int, default=100_000)
    logs.configure("error", "console")
    measure(Report(), **vars(parser.parse_args()))

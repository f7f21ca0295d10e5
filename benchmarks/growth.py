"""Benchmark of inserts and of pages of GET /events, by the number of stored rows.

    .venv/bin/python benchmarks/growth.py [--rows 10000000] [--rounds 5] [--events 40000]

At each size, inserts into a filled table and into an empty copy alternate, so that other load on the machine affects
both. The inserts use `Event.store` with batches of 500 on one connection; both tables have all indexes. "Live" events
have the current time; events of "any age" are spread over the time range of the table, unlike live traffic. The time of
a page includes the parsing of the query, the SQL query and the conversion of its rows, not HTTP.
"""

import argparse
import random
import statistics
import time
from datetime import UTC, datetime, timedelta

import msgspec
from report import Line, Report, Series
from servers import Servers, servers
from uuid_utils.compat import uuid7

from api.resources.events import FILTERS, NEWEST_FIRST, EventQuery, public
from api.resources.paging import page
from eventpulse import logs
from models import database
from models.event import Event

TYPES, SOURCES, BATCH = 10, 20, 500
#: Time between two rows; a table of ten million rows covers 10,000 seconds.
STEP = timedelta(milliseconds=1)
PAGE_REPEATS = 20
PAGES = {"newest": {}, "one event_type": {"event_type": "order.step-3"}, "one source": {"source": "shop-07"}}
# The ids are UUIDv7 with the time of the row, as the API generates them. Random ids would be spread over the index of
# the primary key, while the API appends new ids at the end of the index.
FILL = """
    INSERT INTO events
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
            || substr(md5(n::text), 4, 15))::uuid,
           'order.step-' || n %% 10, 'shop-' || lpad((n / 10 %% 20)::text, 2, '0'), at,
           ('{"order": ' || n %% 1000000 || ', "amount": ' || n %% 9973 / 100.0 || ', "currency": "EUR"}')::jsonb,
           '{"region": "eu-west"}', at
    FROM generate_series(1, %(rows)s) AS n, LATERAL (SELECT %(newest)s - (%(rows)s - n) * %(step)s AS at) AS times
"""
# Empty copy of the table in another schema; a connection selects the copy with `search_path`.
TWIN = "CREATE SCHEMA twin; CREATE TABLE twin.events (LIKE public.events INCLUDING ALL)"


def fill(own: Servers, rows: int) -> None:
    """Replace the contents of the table with `rows` rows, vacuum and analyze the table, and write it to disk."""
    with own.connection.cursor() as cursor:
        cursor.execute("TRUNCATE events")
        cursor.execute(FILL, {"rows": rows, "newest": datetime.now(UTC), "step": STEP})
        cursor.execute("VACUUM ANALYZE events")
        cursor.execute("CHECKPOINT")


def prepare(count: int, oldest: timedelta) -> list[list[bytes]]:
    """Return batches of events that arrive now; their timestamps are between `oldest` ago and now."""
    encoded = []
    for number in range(count):
        now = datetime.now(UTC)
        event = {
            "event_id": uuid7(),
            "event_type": f"order.step-{number % TYPES}",
            "source": f"shop-{number // TYPES % SOURCES:02d}",
            "timestamp": now - random.random() * oldest,
            "payload": {"order": number, "amount": number % 9973 / 100, "currency": "EUR"},
            "metadata": {"region": "eu-west"},
            "received_at": now,
        }
        encoded.append(msgspec.json.encode(event))
    return [encoded[start : start + BATCH] for start in range(0, count, BATCH)]


def store(schema: str, batches: list[list[bytes]]) -> float:
    """Store the events in the table of this schema and return the stored events per second."""
    with database.connection():
        database.database.execute_sql(f"SET search_path TO {schema}, public")
        started = time.perf_counter()
        stored = sum(map(Event.store, batches))
        return stored / (time.perf_counter() - started)


def in_turns(own: Servers, rounds: int, events: int, oldest: timedelta) -> tuple[list[float], list[float]]:
    """Return the insert rates of the empty copy and of the filled table in events/s, one value per round."""
    empty, filled = [], []
    for number in range(rounds):
        with own.connection.cursor() as cursor:
            cursor.execute("TRUNCATE twin.events")
        for schema, rates in sorted({"public": filled, "twin": empty}.items(), reverse=bool(number % 2)):
            rates.append(store(schema, prepare(events, oldest)))
    return empty, filled


def page_ms(parameters: dict[str, str]) -> list[float]:
    """Return the durations of `PAGE_REPEATS` reads of a page of 50 events, in ms."""
    took = []
    with database.connection():
        database.database.execute_sql("SET search_path TO public")
        for _ in range(PAGE_REPEATS):
            started = time.perf_counter()
            page(EventQuery().load(parameters), NEWEST_FIRST, public, FILTERS)
            took.append((time.perf_counter() - started) * 1000)
    return took


def measure(report: Report, rows: int = 10_000_000, rounds: int = 5, events: int = 40_000) -> None:
    """Measure inserts at 0, `rows` / 10 and `rows` stored rows, and pages at the last two sizes.

    Each round inserts `events` events.
    """
    rates: dict[str, list[tuple[float, float]]] = {"live": [], "of any age": []}
    pages: dict[str, list[tuple[float, float]]] = {name: [] for name in PAGES}
    with servers() as own:
        with own.connection.cursor() as cursor:
            cursor.execute(TWIN)
        for size in (0, rows // 10, rows):
            fill(own, size)
            for label, oldest in (("live", timedelta()), ("of any age", STEP * rows)):
                empty, filled = in_turns(own, rounds, events, oldest)
                measured = filled if size else empty
                rates[label].append((size, statistics.median(measured)))
                report.add(Line(f"insert rate at {size:,} rows, {label}", "events/s", measured))
                if size:
                    ratios = [full / none for full, none in zip(filled, empty, strict=True)]
                    bar = 0.90 if label == "live" and size == rows else None
                    name = f"insert rate at {size:,} rows / at zero, {label}"
                    report.add(Line(name, "ratio", ratios, at_least=bar))
            for name, parameters in PAGES.items() if size else ():
                took = page_ms(parameters)
                pages[name].append((size, statistics.median(took)))
                report.add(Line(f"page of GET /events at {size:,} rows, {name}", "ms", took))
    report.add(Series("rows", "rows stored", "events/s", rates))
    report.add(Series("latency of a page", "rows stored", "ms", pages))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=40_000)
    logs.configure("error", "console")
    measure(Report(), **vars(parser.parse_args()))

"""Tests that events, anomalies and throughput are read from an index, with 20,000 rows in each table."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from api.resources import anomalies, events, throughput
from api.resources.paging import matching
from models.anomaly import Anomaly
from models.base import now
from models.database import configure, database
from models.window_events import IN_INDEX_ORDER, Window, window_query

EVENTS = """
    INSERT INTO events
    SELECT gen_random_uuid(), 'type ' || mod(n, 20), 'source ' || mod(n, 20), moment, '{}', '{}', moment
    FROM generate_series(1, 20000) n, LATERAL (SELECT now() - n * interval '1 second') AS t(moment)
"""
ANOMALIES = """
    INSERT INTO anomalies (anomaly_id, dedupe_key, rule_id, rule_name, rule_version, severity, group_key, event_id,
                           message, evidence, series, cooldown_anchor, occurred_at, detected_at)
    SELECT gen_random_uuid(), n::text, ('00000000-0000-0000-0000-0000000000' || 10 + mod(n, 20))::uuid, 'rule', 1,
           (ARRAY['info', 'warning', 'critical'])[1 + mod(n, 3)], '{}', gen_random_uuid(),
           '', '{}', n::text, moment, moment, moment
    FROM generate_series(1, 20000) n, LATERAL (SELECT now() - n * interval '1 second') AS t(moment)
"""
MINUTES = """
    INSERT INTO throughput
    SELECT date_trunc('minute', now()) - n * interval '1 minute', 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM generate_series(1, 20000) n
"""
FROM, TO = "2020-01-01T00:00:00Z", now().isoformat()
UUID = "00000000-0000-0000-0000-000000000010"
PERIODS: list[dict[str, Any]] = [{}, {"from": FROM}, {"to": TO}, {"from": FROM, "to": TO}]


@pytest.fixture(scope="module")
def filled(database_url: str) -> Iterator[None]:
    """Store 20,000 events, anomalies and minutes of throughput, and update the planner statistics."""
    configure(database_url, name="tests")
    database.connect()
    for statement in ("TRUNCATE events, anomalies, deliveries, throughput", EVENTS, ANOMALIES, MINUTES, "ANALYZE"):
        database.execute_sql(statement)
    yield
    database.execute_sql("TRUNCATE events, anomalies, deliveries, throughput")
    database.close()


def plan(rows: Any) -> str:
    sql, params = rows.sql()
    return "\n".join(line for (line,) in database.execute_sql(f"EXPLAIN {sql}", params))


@pytest.mark.parametrize("period", PERIODS, ids="-".join)
@pytest.mark.parametrize("filters", [{}, {"event_type": "type 3"}, {"source": "source 3"}], ids=str)
def test_a_page_of_events_is_read_from_an_index(filled: None, filters: dict[str, str], period: dict[str, str]) -> None:
    rows = matching(events.EventQuery().load(filters | period), events.NEWEST_FIRST, events.FILTERS).limit(51)
    assert_indexed(plan(rows))


@pytest.mark.parametrize("period", PERIODS, ids="-".join)
@pytest.mark.parametrize("filters", [{}, {"rule_id": UUID}, {"severity": "info"}], ids=str)
def test_a_page_of_anomalies_is_read_from_an_index(
    filled: None, filters: dict[str, str], period: dict[str, str]
) -> None:
    rows = matching(anomalies.AnomalyQuery().load(filters | period), anomalies.NEWEST_FIRST, anomalies.FILTERS).limit(
        51
    )
    assert_indexed(plan(rows))


def test_the_anomalies_of_an_event_are_found_by_an_index(filled: None) -> None:
    rows = matching(anomalies.AnomalyQuery().load({"event_id": UUID}), anomalies.NEWEST_FIRST, anomalies.FILTERS).limit(
        51
    )
    assert "Index Cond: (event_id" in plan(rows)


@pytest.mark.parametrize("period", PERIODS, ids="-".join)
def test_a_page_of_minutes_is_read_from_an_index(filled: None, period: dict[str, str]) -> None:
    assert_indexed(plan(matching(throughput.ThroughputQuery().load(period), throughput.NEWEST_FIRST, {}).limit(51)))


def test_the_page_after_a_cursor_starts_in_the_index(filled: None) -> None:
    """The cursor must be a condition of the index scan; otherwise PostgreSQL reads the rows of all earlier pages."""
    middle = Anomaly.select().order_by(Anomaly.detected_at).offset(10_000).get()
    query = anomalies.AnomalyQuery().load({"severity": "info"}) | {"cursor": (middle.detected_at, middle.anomaly_id)}
    steps = plan(matching(query, anomalies.NEWEST_FIRST, anomalies.FILTERS).limit(51))
    assert_indexed(steps)
    assert "detected_at <=" in next(line for line in steps.splitlines() if "Index Cond" in line)


@pytest.mark.parametrize(
    "equals",
    [
        [{}, {}],
        [{"event_type": ["type 3"]}] * 2,
        [{"event_type": ["type 3", "type 4"]}] * 2,
        [{"event_type": ["type 3"], "source": [source]} for source in ("source 3", "source 4")],
        [{"source": ["source 3"], "payload.a": [value]} for value in (1, None)],
        [{"event_type": ["type 3", "type 4"], "source": [source]} for source in ("source 3", "source 4")],
    ],
    ids=["all", "one type", "two types", "groups by source", "groups by payload", "types and groups"],
)
def test_the_windows_of_anomalies_are_read_in_the_order_of_an_index(filled: None, equals: list[dict[str, Any]]) -> None:
    """Otherwise PostgreSQL reads and sorts all rows of a window before it returns the newest ones."""
    windows = [Window(equal, now() - timedelta(days=1), now()) for equal in equals]
    sql, params = window_query(windows, max_rows=1_000)
    with database.atomic():
        database.execute_sql(IN_INDEX_ORDER)
        steps = "\n".join(line for (line,) in database.execute_sql(f"EXPLAIN {sql}", params))
    scans = [line for line in steps.splitlines() if " on events" in line]
    assert len(scans) == 2, steps
    assert all("Index" in scan for scan in scans), steps
    assert any("Index" in scan and "Backward" in scan for scan in scans), steps


def assert_indexed(steps: str) -> None:
    assert "Index Scan" in steps, steps
    assert "Seq Scan" not in steps, steps
    # An incremental sort is allowed: the index has the order of time, so only rows with equal times are sorted.
    assert "->  Sort" not in steps, steps

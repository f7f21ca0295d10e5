"""Suppressed firings: firings of a rule above its caps, and their numbers until a storm anomaly reports them."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from models.database import database

#: Identity of a firing: event id and rule id. The group of an event is the same in every evaluation of a rule.
FiringId = tuple[str, str]

SUPPRESSED = """
    SELECT event_id::text, rule_id::text
    FROM suppressed_firings JOIN unnest(%s::uuid[], %s::uuid[]) AS firing(event_id, rule_id) USING (event_id, rule_id)
"""
SUPPRESS = """
    INSERT INTO suppressed_firings (event_id, rule_id)
    SELECT event_id, rule_id FROM unnest(%s::uuid[], %s::uuid[]) AS firing(event_id, rule_id) ORDER BY event_id
    ON CONFLICT (event_id, rule_id) DO NOTHING
    RETURNING event_id::text, rule_id::text
"""
COUNT = """
    INSERT INTO storm_counts (
        rule_id, rule_name, rule_version, severity, event_id, occurred_at, above_series_cap, above_rule_cap, groups)
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS counts(
        rule_id uuid, rule_name text, rule_version integer, severity text, event_id uuid, occurred_at timestamptz,
        above_series_cap bigint, above_rule_cap bigint, groups jsonb)
"""
# The deletion and the storm anomaly are in one transaction, so that each row is reported exactly once. A row whose
# transaction ends late is reported with the next minute.
TAKE_ENDED = """
    WITH this AS (SELECT date_trunc('minute', clock_timestamp()) AS minute),
    ended AS (
        DELETE FROM storm_counts USING this
        WHERE suppressed_at < this.minute AND NOT EXISTS (
            SELECT FROM anomalies WHERE anomalies.rule_id = storm_counts.rule_id
            AND anomalies.kind = 'storm' AND anomalies.detected_at >= this.minute)
        RETURNING storm_counts.*
    ),
    totals AS (
        SELECT rule_id, max(storm_count_id) AS storm_count_id, sum(above_series_cap)::bigint AS above_series_cap,
            sum(above_rule_cap)::bigint AS above_rule_cap, min(suppressed_at) AS first, max(suppressed_at) AS last
        FROM ended GROUP BY rule_id
    ),
    groups AS (
        SELECT rule_id, key, sum(value::bigint)::bigint AS firings
        FROM ended, jsonb_each_text(groups) GROUP BY rule_id, key
    ),
    ranked AS (
        SELECT rule_id, key, firings, count(*) OVER (PARTITION BY rule_id) AS group_count,
            row_number() OVER (PARTITION BY rule_id ORDER BY firings DESC, key) AS place
        FROM groups
    ),
    top AS (
        SELECT rule_id, max(group_count) AS group_count,
            jsonb_agg(jsonb_build_array(key, firings) ORDER BY place) AS top_groups
        FROM ranked WHERE place <= %s GROUP BY rule_id
    )
    SELECT storm_count_id, rule_id, rule_name, rule_version, severity, event_id, occurred_at, totals.above_series_cap,
        totals.above_rule_cap, group_count, top_groups::text, totals.first, totals.last
    FROM totals JOIN top USING (rule_id) JOIN ended USING (rule_id, storm_count_id)
"""


class StormCount(msgspec.Struct, kw_only=True):
    """Number of suppressed firings of one rule in one batch. `groups` maps group keys to numbers of firings.

    `event_id` and `occurred_at` are those of the last firing.
    """

    rule_id: str
    rule_name: str
    rule_version: int
    severity: str
    event_id: str
    occurred_at: datetime
    above_series_cap: int
    above_rule_cap: int
    groups: Mapping[str, int]


class EndedMinutes(NamedTuple):
    """Suppressed firings of one rule in minutes that have ended.

    `first` and `last` are the times of the first and the last suppression; `top_groups` has the group keys with the
    most firings. The other fields are as in `StormCount`, of the last batch.
    """

    storm_count_id: int
    rule_id: UUID
    rule_name: str
    rule_version: int
    severity: str
    event_id: UUID
    occurred_at: datetime
    above_series_cap: int
    above_rule_cap: int
    group_count: int
    top_groups: list[tuple[str, int]]
    first: datetime
    last: datetime


def suppressed_among(firings: Sequence[FiringId]) -> set[FiringId]:
    """Return the firings that are already suppressed."""
    return set(database.execute_sql(SUPPRESSED, _columns(firings)).fetchall())


def suppress(firings: Sequence[FiringId]) -> set[FiringId]:
    """Store suppressed firings; return those that were not suppressed before, which the caller must count."""
    return set(database.execute_sql(SUPPRESS, _columns(firings)).fetchall())


def add_counts(counts: Iterable[StormCount]) -> None:
    """Store counts in the transaction that has stored their firings as suppressed."""
    database.execute_sql(COUNT, (msgspec.json.encode(list(counts)).decode(),))


def take_ended_minutes(top_groups: int) -> list[EndedMinutes]:
    """Delete the counts of all minutes that have ended, and return their sums by rule; the caller has a transaction.

    A rule with a storm anomaly in the current minute is left out. `top_groups`: maximum number of groups in a result.
    """
    rows: Any = database.execute_sql(TAKE_ENDED, (top_groups,)).fetchall()
    decode = msgspec.json.Decoder(list[tuple[str, int]]).decode
    ended = (EndedMinutes(*row) for row in rows)
    return [minutes._replace(top_groups=decode(minutes.top_groups)) for minutes in ended]  # type: ignore[arg-type]


def _columns(firings: Sequence[FiringId]) -> tuple[list[str], list[str]]:
    return [event_id for event_id, _ in firings], [rule_id for _, rule_id in firings]

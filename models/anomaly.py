"""Anomalies. An anomaly records that a rule fired for one group because of one event, or a storm of firings."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import peewee
from uuid_utils.compat import uuid7

from models.base import Row, count_by_minute, jsonb, now, time
from models.database import database

#: Time after a storm anomaly in which the storm counts as current: the next one follows about a minute later.
STORM_CURRENT_SECONDS = 150

LOCK_RULES = "SELECT pg_advisory_xact_lock(hashtextextended(rule_id, 0)) FROM unnest(%s::text[]) AS rule_id"
STORED = """
    SELECT event_id::text, rule_id::text, group_key, anomaly_id, severity, event_id, cooldown_anchor
    FROM anomalies WHERE event_id = ANY(%s::uuid[]) AND kind = 'firing'
"""
IN_COOLDOWN = """
    SELECT firing.event_id, firing.rule_id, anomaly.*
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
        AS firing(event_id, rule_id, series, after, before)
    CROSS JOIN LATERAL (
        SELECT anomaly_id, severity, event_id, cooldown_anchor FROM anomalies
        WHERE series = firing.series AND cooldown_anchor > firing.after AND cooldown_anchor < firing.before
        LIMIT 1
    ) AS anomaly
"""
# statement_timestamp() and not clock_timestamp(), which cannot be a condition of an index scan.
RECENT = """
    SELECT rule_id::text, series, count(*) FROM anomalies
    WHERE rule_id = ANY(%s::uuid[]) AND kind = 'firing'
        AND detected_at > statement_timestamp() - make_interval(secs => %s)
    GROUP BY rule_id, series
"""
# ON CONFLICT: during a rolling upgrade, a worker of an earlier version does not wait for the locks of the rules.
INSERT = """
    INSERT INTO anomalies (
        anomaly_id, dedupe_key, kind, rule_id, rule_name, rule_version, severity, group_key, event_id,
        message, evidence, request_id, series, cooldown_anchor, occurred_at, detected_at)
    SELECT
        anomaly_id, dedupe_key, kind, rule_id, rule_name, rule_version, severity, group_key, event_id,
        message, evidence, request_id, series, cooldown_anchor, occurred_at, clock_timestamp()
    FROM jsonb_to_recordset(%s::jsonb) AS anomaly(
        anomaly_id uuid, dedupe_key text, kind text, rule_id uuid, rule_name text, rule_version integer, severity text,
        group_key text, event_id uuid, message text, evidence jsonb, request_id text, series text,
        cooldown_anchor timestamptz, occurred_at timestamptz)
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING anomaly_id
"""


class CooldownCheck(NamedTuple):
    """A firing, and the open interval around its cooldown anchor in which its series may have no other anomaly."""

    event_id: str
    rule_id: str
    series: str
    after: datetime
    before: datetime


class StoredAnomaly(NamedTuple):
    """Part of an anomaly that the recording of firings needs."""

    anomaly_id: UUID
    severity: str
    event_id: UUID
    cooldown_anchor: datetime


class CurrentStorm(NamedTuple):
    """Storm of a rule: the version of the rule in the last minute, its start, and whether it marks the rule."""

    rule_version: int
    since: datetime
    is_lasting: bool

    def marks(self, rule_version: int) -> bool:
        """Return whether this version of the rule is marked as storming; a change of the rule removes the mark."""
        return self.is_lasting and rule_version == self.rule_version


class Anomaly(Row):
    """One anomaly. Rows are inserted by the actor `evaluate` and by the job `record_storms`, and never changed.

    `dedupe_key`: unique for each rule, group and triggering event; for a storm, unique for each storm anomaly.
    `kind`: `firing`, or `storm` for an anomaly that reports the suppressed firings of a rule and minute.
    `rule_name`, `rule_version`: copies, because the rule can be changed or deleted later.
    `series`: key of the group and of the rule with its condition; also the key of the cooldown in Redis.
    `cooldown_anchor`: timestamp of the event, or its time of arrival if the timestamp is outside the allowed lateness.
    The anchors of two anomalies of a series are at least one cooldown apart.
    `evidence`: the verdict and sample events, as returned by `actors.pipeline.evidence.collect`, or the numbers of a
    storm, as returned by `rules.engine.storms.storm_evidence`.
    """

    anomaly_id = peewee.UUIDField(primary_key=True, default=uuid7)
    dedupe_key = peewee.TextField(unique=True)
    kind = peewee.TextField(default="firing")
    rule_id = peewee.UUIDField()
    rule_name = peewee.TextField()
    rule_version = peewee.IntegerField()
    severity = peewee.TextField()
    group_key = peewee.TextField()
    event_id = peewee.UUIDField()
    message = peewee.TextField()
    evidence = jsonb()
    request_id = peewee.TextField(null=True)
    series = peewee.TextField()
    cooldown_anchor = time()
    occurred_at = time()
    detected_at = time(default=now)

    class Meta:
        table_name = "anomalies"

    @classmethod
    def lock_rules(cls, rule_ids: Iterable[str]) -> None:
        """Lock the recording of anomalies of these rules until the transaction ends.

        Otherwise two workers could record anomalies within one cooldown, or above a cap, at the same time.
        """
        # Sorted: two transactions with the same rules must lock them in the same order, so that they cannot deadlock.
        database.execute_sql(LOCK_RULES, (sorted(rule_ids),)).fetchall()

    @classmethod
    def stored(cls, event_ids: Iterable[str]) -> dict[tuple[str, str, str], StoredAnomaly]:
        """Return the anomalies with these triggering events, by event id, rule id and group key, without storms."""
        rows: Any = database.execute_sql(STORED, (list(event_ids),)).fetchall()
        return {(event_id, rule_id, group): StoredAnomaly(*columns) for event_id, rule_id, group, *columns in rows}

    @classmethod
    def in_cooldown(cls, checks: Sequence[CooldownCheck]) -> dict[tuple[str, str], StoredAnomaly]:
        """Return an anomaly within the cooldown of each firing that has one, by event id and rule id."""
        rows: Any = database.execute_sql(IN_COOLDOWN, tuple(map(list, zip(*checks, strict=True)))).fetchall()
        return {(event_id, rule_id): StoredAnomaly(*columns) for event_id, rule_id, *columns in rows}

    @classmethod
    def recent(cls, rule_ids: Iterable[str], seconds: int) -> dict[tuple[str, str], int]:
        """Return the number of anomalies detected in the last `seconds`, by rule id and series, without storms."""
        rows: Any = database.execute_sql(RECENT, (list(rule_ids), seconds)).fetchall()
        return {(rule_id, series): count for rule_id, series, count in rows}

    @classmethod
    def add_all(cls, rows: Iterable[Mapping[str, Any]]) -> set[UUID]:
        """Insert anomalies that are detected now, by column name, and return the ids of the new rows.

        A row whose dedupe key is already stored is ignored.
        """
        encoded = msgspec.json.encode(list(rows)).decode()
        return {anomaly_id for (anomaly_id,) in database.execute_sql(INSERT, (encoded,)).fetchall()}

    @classmethod
    def current_storms(cls, rule_ids: Iterable[UUID] | None = None) -> dict[UUID, CurrentStorm]:
        """Return the current storms by rule id, of these rules or of all rules."""
        since = peewee.fn.statement_timestamp() - peewee.fn.make_interval(0, 0, 0, 0, 0, 0, STORM_CURRENT_SECONDS)
        storms = cls.select().where(cls.kind == "storm", cls.detected_at > since).order_by(cls.detected_at)
        if rule_ids is not None:
            storms = storms.where(cls.rule_id.in_(list(rule_ids)))
        return {
            row.rule_id: CurrentStorm(
                row.rule_version, datetime.fromisoformat(row.evidence["since"]), row.evidence["storming"]
            )
            for row in storms
        }

    @classmethod
    def count_by_minute(cls, since: datetime) -> dict[datetime, int]:
        """Return the number of anomalies detected in each minute from `since`; empty minutes are omitted."""
        return count_by_minute(cls.detected_at, since)

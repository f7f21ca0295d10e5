"""Recording of storms: one anomaly for each rule and minute with suppressed firings."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from actors import runtime
from actors.pipeline.evaluate import announce
from actors.pipeline.record_firings import create_deliveries, dedupe_key
from models.anomaly import Anomaly, CurrentStorm
from models.database import connection, database
from models.suppression import EndedMinutes, take_ended_minutes
from rules.engine.storms import GROUPS_IN_EVIDENCE, Storm, explain_storm, storm_evidence

log = structlog.get_logger()

MINUTE = timedelta(minutes=1)


def record_storms(storm_minutes: int) -> int:
    """Record and announce one storm anomaly for each rule with suppressed firings in minutes that have ended.

    Return the number of anomalies. A rule whose storm lasts for `storm_minutes` is marked as storming. The counts are
    deleted in the same transaction, so that each firing is reported once. Raises `redis.RedisError` or
    `peewee.PeeweeException` if a server is unavailable.
    """
    with connection(), database.atomic():
        ended = take_ended_minutes(GROUPS_IN_EVIDENCE)
        if not ended:
            return 0
        current = Anomaly.current_storms([minutes.rule_id for minutes in ended])
        rows = list(_rows(ended, current, storm_minutes))
        Anomaly.add_all(rows)
        deliveries = create_deliveries([(row["anomaly_id"], row["severity"]) for row in rows])
    announce(deliveries)
    for row in rows:
        log.warning("storm_recorded", rule=row["rule_name"], anomaly_id=str(row["anomaly_id"]), message=row["message"])
    return len(rows)


def _rows(
    ended: Iterable[EndedMinutes], current: Mapping[UUID, CurrentStorm], storm_minutes: int
) -> Iterable[dict[str, Any]]:
    caps = runtime.current().storm_caps
    for minutes in ended:
        storm = _storm(minutes, current.get(minutes.rule_id), storm_minutes)
        yield {
            "anomaly_id": uuid7(),
            "dedupe_key": dedupe_key("storm", str(minutes.rule_id), str(minutes.storm_count_id)),
            "kind": "storm",
            "rule_id": minutes.rule_id,
            "rule_name": minutes.rule_name,
            "rule_version": minutes.rule_version,
            "severity": minutes.severity,
            "group_key": "{}",
            "event_id": minutes.event_id,
            "message": explain_storm(storm),
            "evidence": storm_evidence(storm, caps),
            "series": f"storm:{minutes.rule_id}",
            "cooldown_anchor": minutes.last,
            "occurred_at": minutes.occurred_at,
        }


def _storm(minutes: EndedMinutes, current: CurrentStorm | None, storm_minutes: int) -> Storm:
    since = current.since if current else minutes.first
    start, end = _minute(minutes.first), _minute(minutes.last) + MINUTE
    return Storm(
        rule_name=minutes.rule_name,
        above_series_cap=minutes.above_series_cap,
        above_rule_cap=minutes.above_rule_cap,
        seconds=int((end - start).total_seconds()),
        group_count=minutes.group_count,
        top_groups=minutes.top_groups,
        since=since,
        is_lasting=end - _minute(since) >= storm_minutes * MINUTE,
    )


def _minute(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)

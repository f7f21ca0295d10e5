"""Recording of the firings of a batch: anomalies, deliveries, and the counts of suppressed firings."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec
import structlog
from uuid_utils.compat import uuid7

from actors import runtime
from actors.pipeline import evidence
from models.anomaly import Anomaly, CooldownCheck, StoredAnomaly
from models.channel import Channel
from models.database import connection, database
from models.delivery import Delivery
from models.suppression import FiringId, StormCount, add_counts, suppress, suppressed_among
from rules.engine.explain import explain
from rules.engine.series import Firing
from rules.engine.storms import CAP_SECONDS, Decision, Suppressed, cooldown_start, decide
from rules.event import microseconds, moment
from rules.windows.queries import CooldownClaim

log = structlog.get_logger()

#: Number of anomalies of a rule and batch that are logged one by one; the others are logged as a number.
LOGGED_ANOMALIES = 3
#: Maximum length of a group key in the counts of a storm. The rest of a longer key is replaced with a digest.
MAX_GROUP_KEY_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Recording:
    """Result of a recording: unsettled deliveries to announce, and cooldowns to start."""

    deliveries: list[Delivery]
    cooldowns: list[CooldownClaim]


def record_firings(firings: Sequence[Firing], request_id: Callable[[str], str | None]) -> Recording:
    """Record the firings of a batch in one transaction with a constant number of statements.

    A firing becomes an anomaly with its deliveries, unless it is already recorded or suppressed, is within the cooldown
    of an anomaly of its series, or exceeds a cap. A firing above a cap is suppressed: it is counted once, and its
    cooldown starts as if it was recorded. `request_id` returns the id of the HTTP request of an event, by event
    id, or None.
    """
    by_id = {_id(firing): firing for firing in firings}
    with connection(), database.atomic():
        rule_ids = {firing.rule.rule_id for firing in firings}
        Anomaly.lock_rules(rule_ids)
        stored = _stored(by_id)
        fresh = [firing for firing_id, firing in by_id.items() if firing_id not in stored]
        decision = _decide(fresh, Anomaly.recent(rule_ids, CAP_SECONDS))
        rows = _rows(decision.recorded, request_id)
        added = Anomaly.add_all(rows) if rows else set()
        if decision.suppressed:
            _suppress(decision.suppressed)
        deliveries = create_deliveries(
            [(anomaly.anomaly_id, anomaly.severity) for anomaly in stored.values()]
            + [(row["anomaly_id"], row["severity"]) for row in rows if row["anomaly_id"] in added]
        )
    _log([row for row in rows if row["anomaly_id"] in added])
    for firing in decision.in_cooldown:
        del by_id[_id(firing)]
    return Recording(deliveries, _cooldowns(by_id, stored))


def create_deliveries(anomalies: Iterable[tuple[UUID, str]]) -> list[Delivery]:
    """Create the missing deliveries of anomalies, and return the unsettled deliveries of these anomalies.

    `anomalies` has the ids and severities. The deliveries of anomalies that existed before are included: a worker may
    have crashed before it queued the notifications.
    """
    by_severity: dict[str, set[UUID]] = defaultdict(set)
    for anomaly_id, severity in anomalies:
        by_severity[severity].add(anomaly_id)
    return [
        delivery
        for severity, ids in by_severity.items()
        for delivery in Delivery.create_missing(ids, Channel.subscribed_to(severity))
    ]


def dedupe_key(*parts: str) -> str:
    """Return a digest of the parts, which identify an anomaly."""
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _id(firing: Firing) -> FiringId:
    return firing.event_id, firing.rule.rule_id


def _stored(by_id: Mapping[FiringId, Firing]) -> dict[FiringId, StoredAnomaly]:
    """Return the stored anomaly of each firing that is recorded, or is within the cooldown of an anomaly."""
    stored: dict[FiringId, StoredAnomaly] = {}
    if checks := list(_cooldown_checks(by_id)):
        stored |= Anomaly.in_cooldown(checks)
    same = Anomaly.stored({event_id for event_id, _ in by_id})
    for (event_id, rule_id, group_key), anomaly in same.items():
        firing = by_id.get((event_id, rule_id))
        if firing and firing.group_key == group_key:
            stored[event_id, rule_id] = anomaly
    return stored


def _cooldown_checks(by_id: Mapping[FiringId, Firing]) -> Iterator[CooldownCheck]:
    for (event_id, rule_id), firing in by_id.items():
        if seconds := firing.rule.cooldown_seconds:
            anchor, cooldown = moment(cooldown_start(firing)), timedelta(seconds=seconds)
            yield CooldownCheck(event_id, rule_id, firing.claim.key, anchor - cooldown, anchor + cooldown)


def _decide(firings: Sequence[Firing], recent: Mapping[tuple[str, str], int]) -> Decision:
    """Decide which firings are recorded. A firing that is suppressed already stays suppressed."""
    caps = runtime.current().storm_caps
    decision = decide(firings, recent, caps)
    if not decision.recorded:
        return decision
    suppressed = suppressed_among([_id(firing) for firing in decision.recorded])
    # Without the suppressed firings, other firings may be recorded instead, which must be checked as well.
    if suppressed:
        suppressed = suppressed_among([_id(firing) for firing in firings])
        decision = decide([firing for firing in firings if _id(firing) not in suppressed], recent, caps)
    return decision


def _rows(firings: Sequence[Firing], request_id: Callable[[str], str | None]) -> list[dict[str, Any]]:
    """Return the columns of the anomalies of these firings."""
    collected = evidence.collect(firings) if firings else []
    return [
        {
            "anomaly_id": uuid7(),
            "dedupe_key": dedupe_key(firing.rule.rule_id, firing.group_key, firing.event_id),
            "kind": "firing",
            "rule_id": firing.rule.rule_id,
            "rule_name": firing.rule.name,
            "rule_version": firing.rule.version,
            "severity": firing.rule.severity,
            "group_key": firing.group_key,
            "event_id": firing.event_id,
            "message": explain(firing, found.get("count"), found.get("count_is_lower_bound", False)),
            "evidence": found,
            "request_id": request_id(firing.event_id),
            "series": firing.claim.key,
            "cooldown_anchor": moment(cooldown_start(firing)),
            "occurred_at": firing.occurred_at,
        }
        for firing, found in zip(firings, collected, strict=True)
    ]


def _suppress(suppressed: Sequence[Suppressed]) -> None:
    """Store suppressed firings, and count those that were not suppressed before."""
    added = suppress([_id(firing) for firing, _ in suppressed])
    by_rule: dict[str, list[Suppressed]] = defaultdict(list)
    for each in suppressed:
        if _id(each.firing) in added:
            by_rule[each.firing.rule.rule_id].append(each)
    if by_rule:
        add_counts(_storm_count(of_rule) for of_rule in by_rule.values())


def _storm_count(suppressed: Sequence[Suppressed]) -> StormCount:
    last, rule = suppressed[-1].firing, suppressed[-1].firing.rule
    reasons = Counter(each.reason for each in suppressed)
    return StormCount(
        rule_id=rule.rule_id,
        rule_name=rule.name,
        rule_version=rule.version,
        severity=rule.severity,
        event_id=last.event_id,
        occurred_at=last.occurred_at,
        above_series_cap=reasons["series cap"],
        above_rule_cap=reasons["rule cap"],
        groups=Counter(_bounded(each.firing.group_key) for each in suppressed),
    )


def _bounded(group_key: str) -> str:
    return (
        group_key
        if len(group_key) <= MAX_GROUP_KEY_CHARACTERS
        else (group_key[:MAX_GROUP_KEY_CHARACTERS] + dedupe_key(group_key))
    )


def _cooldowns(by_id: Mapping[FiringId, Firing], stored: Mapping[FiringId, StoredAnomaly]) -> list[CooldownClaim]:
    """Return the cooldowns to start: those of the stored anomalies, and of all other firings."""
    return [
        msgspec.structs.replace(firing.claim, members=[(microseconds(found.cooldown_anchor), str(found.event_id))])
        if (found := stored.get(firing_id))
        else firing.claim
        for firing_id, firing in by_id.items()
        if firing.claim.cooldown
    ]


def _log(rows: Sequence[Mapping[str, Any]]) -> None:
    """Log the first anomalies of each rule one by one, and the number of the others."""
    logged: Counter[str] = Counter()
    for row in rows:
        logged[row["rule_name"]] += 1
        if logged[row["rule_name"]] <= LOGGED_ANOMALIES:
            log.info(
                "anomaly_recorded",
                rule=row["rule_name"],
                anomaly_id=str(row["anomaly_id"]),
                message=row["message"],
            )
    for rule, count in logged.items():
        if count > LOGGED_ANOMALIES:
            log.info("further_anomalies_recorded", rule=rule, anomalies=count - LOGGED_ANOMALIES)

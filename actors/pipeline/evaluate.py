"""Let every rule that index_keys an event look at it, and announce what they find."""

from datetime import timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

import dramatiq
import msgspec
import peewee
import structlog

from actors import runtime
from actors.broker import broker
from actors.outages import retry_on_outage
from actors.pipeline.notify import notify
from actors.rule_state.rulebook import suspend
from actors.rule_state.windows.redis_windows import RedisWindow
from actors.transport.batch import current_batch
from actors.transport.messages import request_id_of
from eventpulse.times import iso_utc
from models.anomaly import Anomaly
from models.channel import Channel
from models.database import connection, database, is_too_slow
from models.delivery import Delivery
from models.event import Event as EventRow
from models.pending_evaluation import PendingEvaluation
from rules.engine.evaluate import Firing, evaluate_batch
from rules.engine.explain import explain
from rules.event import Event, microseconds, moment
from rules.windows.queries import CooldownClaim

log = structlog.get_logger()

#: How long an alert may wait for the exact count and the samples of its window.
EVIDENCE_TIMEOUT_MS = 2_000

decode = msgspec.json.Decoder(Event).decode


@dramatiq.actor(queue_name="evaluate", batch=500, concurrency=2, max_retries=5)
@retry_on_outage
def evaluate(*raw: msgspec.Raw) -> None:
    """Decide on a batch of stored events; anomalies are recorded and their notifications queued.

    Redelivery changes nothing: windows hold event ids, an anomaly is unique per rule, group and triggering event,
    and a cooldown begins when its anomaly is recorded, not when it is found.
    """
    batch = current_batch()
    assert batch is not None
    events = [decode(event) for event in raw]
    window = RedisWindow(broker.client)
    found = evaluate_batch(events, runtime.current().rulebook.current(), window)
    for fault in found.faults:
        suspend(fault.rule.rule_id, fault.rule.version, fault.reason)
    if found.firings:
        requests = {event.event_id: request_id_of(line) for event, line in zip(events, batch.records, strict=True)}
        spoken = [record(firing, requests.get(firing.event_id)) for firing in found.firings]
        window.start_cooldowns([claim for claim in spoken if claim.cooldown])
    with connection():
        PendingEvaluation.confirm(batch.ids)
    batch.outbox.counts.update(evaluated=len(events), late=found.late)


def record(firing: Firing, request_id: str | None) -> CooldownClaim:
    """Store what a rule found together with its pending deliveries, and queue their notifications, all of it once.

    Returns the claim of the event that speaks for the group: this one, or another that was recorded meanwhile.
    """
    ((cooldown_anchor, _),) = firing.claim.members
    dedupe_key = _dedupe_key(firing)
    with connection():
        evidence = _evidence(firing)
        with database.atomic():
            anomaly = Anomaly.record(
                timedelta(seconds=firing.rule.cooldown_seconds),
                dedupe_key=dedupe_key,
                rule_id=UUID(firing.rule.rule_id),
                rule_name=firing.rule.name,
                rule_version=firing.rule.version,
                severity=firing.rule.severity,
                group_key=firing.group_key,
                event_id=UUID(firing.event_id),
                message=explain(firing, evidence.get("count")),
                evidence=evidence,
                request_id=request_id,
                series=firing.claim.key,
                cooldown_anchor=moment(cooldown_anchor),
                occurred_at=firing.occurred_at,
            )
            # Of another's, too: whoever recorded it may have died before its notifications were queued.
            deliveries = Delivery.plan(anomaly, Channel.subscribed_to(anomaly.severity))
    for delivery in deliveries:
        notify.send(str(delivery.anomaly_id), str(delivery.channel_id))
    if anomaly.dedupe_key == dedupe_key:
        log.info("anomaly", rule=anomaly.rule_name, anomaly_id=str(anomaly.anomaly_id), message=anomaly.message)
    spoken = [(microseconds(anomaly.cooldown_anchor), str(anomaly.event_id))]
    return msgspec.structs.replace(firing.claim, members=spoken)


def _dedupe_key(firing: Firing) -> str:
    """One anomaly per rule, group and triggering event."""
    parts = (firing.rule.rule_id, firing.group_key, firing.event_id)
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _evidence(firing: Firing) -> dict[str, Any]:
    """What made the rule fire: its verdict, and the window's real count and samples, read once, now that it fired."""
    verdict = firing.verdict
    said = {"reason": verdict.reason, "observed": verdict.observed, "threshold": verdict.threshold, **verdict.details}
    window = firing.selection
    if window is None:
        event = EventRow.get_or_none(EventRow.event_id == UUID(firing.event_id))
        return {"samples": [event.summary()] if event else []} | said
    try:
        with database.atomic():
            database.execute_sql("SET LOCAL statement_timeout = %s", (EVIDENCE_TIMEOUT_MS,))
            held = EventRow.evidence(window.equal, window.after, window.until)
    except peewee.OperationalError as error:
        if not is_too_slow(error):
            raise
        return {"samples": []} | said  # an alert with less in it is better than a late one
    return {
        "count": held.count,
        "first": held.first and iso_utc(held.first),
        "last": held.last and iso_utc(held.last),
        "samples": held.samples,
    } | said

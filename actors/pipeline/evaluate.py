"""Stage that applies the rules to stored events, records the anomalies and queues their notifications."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

import dramatiq
import msgspec
import structlog

from actors import runtime
from actors.broker import broker
from actors.outages import retry_on_outage
from actors.pipeline import evidence
from actors.pipeline.notify import notify
from actors.pipeline.records import request_id_of
from actors.rule_state.rulebook import suspend
from actors.rule_state.windows.redis_windows import RedisWindow
from actors.transport.batch import current_batch
from actors.transport.entry_id import completed_bundles
from models.anomaly import Anomaly
from models.channel import Channel
from models.database import connection, database
from models.delivery import Delivery
from models.pending_evaluation import PendingEvaluation
from rules.engine.evaluate import Firing, evaluate_batch
from rules.engine.explain import explain
from rules.event import Event, microseconds, moment
from rules.windows.queries import CooldownClaim

log = structlog.get_logger()

decode = msgspec.json.Decoder(Event).decode


@dramatiq.actor(queue_name="evaluate", batch=500, concurrency=2, max_retries=5)
@retry_on_outage
def evaluate(*encoded: msgspec.Raw) -> None:
    """Apply the rules to a batch of stored events, record the anomalies, and confirm the evaluation.

    A redelivery changes nothing: windows hold event ids, an anomaly is unique per rule, group and triggering event,
    and a cooldown begins when its anomaly is recorded, not when the rule fires.
    """
    batch = current_batch()
    assert batch is not None
    events = [decode(event) for event in encoded]
    window = RedisWindow(broker.client)
    evaluation = evaluate_batch(events, runtime.current().rulebook.current(), window)
    for fault in evaluation.faults:
        suspend(fault.rule.rule_id, fault.rule.version, fault.reason)
    if evaluation.firings:
        request_ids = _request_ids(events, batch.records)
        anomalies = [record(firing, request_ids.get(firing.event_id)) for firing in evaluation.firings]
        window.start_cooldowns(_cooldowns(evaluation.firings, anomalies))
    with connection():
        PendingEvaluation.confirm(completed_bundles(batch.ids))
    batch.outbox.counts.update(evaluated=len(events), late=evaluation.late)


def record(firing: Firing, request_id: str | None) -> Anomaly:
    """Store the anomaly of a firing and its pending deliveries, and queue the notifications.

    Return the new anomaly or, after a redelivery or during a cooldown, the existing anomaly.
    """
    dedupe_key = _dedupe_key(firing)
    with connection():
        collected = evidence.collect(firing)
        with database.atomic():
            anomaly = Anomaly.record(
                timedelta(seconds=firing.rule.cooldown_seconds), **_columns(firing, dedupe_key, collected, request_id)
            )
            # Includes deliveries of an existing anomaly: a worker may have crashed before it queued the notifications.
            deliveries = Delivery.create_missing(anomaly, Channel.subscribed_to(anomaly.severity))
    announce(deliveries)
    if anomaly.dedupe_key == dedupe_key:
        log.info(
            "anomaly_recorded", rule=anomaly.rule_name, anomaly_id=str(anomaly.anomaly_id), message=anomaly.message
        )
    return anomaly


def announce(deliveries: Iterable[Delivery]) -> None:
    """Add a `notify` message for each delivery to the outbox of the batch."""
    for delivery in deliveries:
        notify.send(str(delivery.anomaly_id), str(delivery.channel_id))


def _request_ids(events: Sequence[Event], records: Sequence[bytes]) -> dict[str, str | None]:
    """Return the id of the HTTP request of each event, by event id."""
    return {event.event_id: request_id_of(record) for event, record in zip(events, records, strict=True)}


def _cooldowns(firings: Sequence[Firing], anomalies: Sequence[Anomaly]) -> list[CooldownClaim]:
    """Return the cooldowns that `anomalies` start; rules without a cooldown are left out."""
    return [
        msgspec.structs.replace(firing.claim, members=[(microseconds(anomaly.cooldown_anchor), str(anomaly.event_id))])
        for firing, anomaly in zip(firings, anomalies, strict=True)
        if firing.claim.cooldown
    ]


def _dedupe_key(firing: Firing) -> str:
    """Return a key that is unique per rule, group and triggering event."""
    parts = (firing.rule.rule_id, firing.group_key, firing.event_id)
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _columns(firing: Firing, dedupe_key: str, collected: dict[str, Any], request_id: str | None) -> dict[str, Any]:
    """Return the values of the anomaly of a firing, by column name."""
    ((cooldown_anchor, _),) = firing.claim.members
    return {
        "dedupe_key": dedupe_key,
        "rule_id": UUID(firing.rule.rule_id),
        "rule_name": firing.rule.name,
        "rule_version": firing.rule.version,
        "severity": firing.rule.severity,
        "group_key": firing.group_key,
        "event_id": UUID(firing.event_id),
        "message": explain(firing, collected.get("count")),
        "evidence": collected,
        "request_id": request_id,
        "series": firing.claim.key,
        "cooldown_anchor": moment(cooldown_anchor),
        "occurred_at": firing.occurred_at,
    }

"""Requeueing of stored events whose `evaluate` message was lost.

Messages are lost if Redis loses data: after a power failure, the restore of a backup, or FLUSHALL. The pending
evaluations in PostgreSQL show which events are affected.
"""

import msgspec
import structlog

from actors.broker import broker
from actors.pipeline.records import event_records
from actors.recovery.lost_work import is_behind
from actors.transport.messages import make_bundles
from models.database import connection
from models.event import Event
from models.pending_evaluation import OVERDUE_SECONDS, PendingEvaluation

log = structlog.get_logger()

QUEUE = "evaluate"


def requeue(overdue_seconds: float = OVERDUE_SECONDS) -> int:
    """Queue the events of overdue pending evaluations; return the number of events.

    Do nothing and return 0 while the queue is behind. Snooze a pending evaluation whose bundle is still in the queue.
    Events with a dead letter are left out. A second evaluation of an event has no effect. Raises `redis.RedisError` or
    `peewee.PeeweeException` if a server is unavailable.
    """
    # The messages of a split bundle have other ids, so the bundle would count as lost while its messages wait.
    if is_behind(QUEUE, OVERDUE_SECONDS):
        return 0
    with connection():
        overdue = PendingEvaluation.overdue(overdue_seconds)
        queued = _still_queued([pending.bundle_id for pending in overdue])
        PendingEvaluation.snooze(queued)
        requeued = sum(_requeue_events(pending) for pending in overdue if pending.bundle_id not in queued)
    if requeued:
        log.warning("stale_events_requeued", events=requeued)
    return requeued


def _still_queued(bundle_ids: list[str]) -> list[str]:
    """Return the ids of the bundles that are not acknowledged yet."""
    pipeline = broker.client.pipeline(transaction=False)
    for bundle_id in bundle_ids:
        pipeline.hexists(f"{broker.namespace}:{QUEUE}.msgs", bundle_id)
    return [bundle_id for bundle_id, exists in zip(bundle_ids, pipeline.execute(), strict=True) if exists]


def _requeue_events(pending: PendingEvaluation) -> int:
    """Queue the events of one pending evaluation, each in its own bundle; return the number of events.

    If the events cannot be read, log the error and snooze the pending evaluation, so that it does not block other
    pending evaluations.
    """
    try:
        events = [row.__data__ for row in Event.evaluable(pending.event_ids)]
    except ValueError as error:
        log.error("pending_evaluation_unreadable", bundle_id=pending.bundle_id, error=str(error))
        PendingEvaluation.snooze([pending.bundle_id])
        return 0
    # One bundle for each event: otherwise one event that fails would cause all events to be requeued again.
    singles = list(make_bundles(QUEUE, event_records(map(msgspec.json.encode, events), None), 1))
    parts = {bundle.id: [str(event["event_id"])] for bundle, event in zip(singles, events, strict=True)}
    # PostgreSQL first: after a crash before the enqueue, the new pending evaluations become overdue and are requeued.
    if PendingEvaluation.split(pending.bundle_id, parts):
        for bundle in singles:
            broker.run_script("enqueue", QUEUE, *bundle, 0)
    return len(events)

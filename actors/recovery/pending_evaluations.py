"""Events that were stored and, by whatever misfortune, never evaluated: found, and evaluated after all.

No guard sees what is lost with Redis' data itself: by a machine that lost power, a backup that was restored, a Redis
that somebody emptied. PostgreSQL knows what it handed over.
"""

import msgspec
import structlog

from actors.broker import broker
from actors.transport import queues
from actors.transport.messages import bundles, line
from models.database import connection
from models.event import Event
from models.pending_evaluation import OVERDUE_SECONDS, PendingEvaluation

log = structlog.get_logger()

QUEUE = "evaluate"


def resume(overdue_seconds: float = OVERDUE_SECONDS) -> int:
    """Evaluate again what was handed over so long ago and not confirmed; returns how many events.

    What merely waits in its queue is left there; while the queue is behind, nothing is done, for what was taken apart
    cannot be told from what is lost. Events among the dead stay dead. Redelivery changes nothing, so that one too many
    does no harm. Raises `redis.RedisError` or `peewee.PeeweeException` when a server is away.
    """
    if queues.depths(broker, QUEUE)[QUEUE].oldest_age_seconds > OVERDUE_SECONDS / 2:
        return 0
    with connection():
        overdue = PendingEvaluation.overdue(overdue_seconds)
        waiting = _waiting([handover.bundle_id for handover in overdue])
        PendingEvaluation.snooze(waiting)
        resumed = sum(_resumed(handover) for handover in overdue if handover.bundle_id not in waiting)
    if resumed:
        log.warning("evaluated_again", events=resumed)
    return resumed


def _waiting(bundle_ids: list[str]) -> list[str]:
    """Those that are still in their queue, or under way."""
    pipeline = broker.client.pipeline(transaction=False)
    for bundle_id in bundle_ids:
        pipeline.hexists(f"{broker.namespace}:{QUEUE}.msgs", bundle_id)
    return [bundle_id for bundle_id, waits in zip(bundle_ids, pipeline.execute(), strict=True) if waits]


def _resumed(handover: PendingEvaluation) -> int:
    """Hand its events over again, each by itself; returns how many. What cannot be read stops no other."""
    try:
        events = [row.__data__ for row in Event.alive(handover.event_ids)]
    except ValueError as error:
        log.error("handover_unreadable", bundle_id=handover.bundle_id, error=str(error))
        PendingEvaluation.snooze([handover.bundle_id])
        return 0
    # One by one, so that one of them that fails does not bring the others back again and again.
    alone = list(bundles(QUEUE, [line(msgspec.json.encode(event), None) for event in events], 1))
    parts = {bundle.id: [str(event["event_id"])] for bundle, event in zip(alone, events, strict=True)}
    # In this order: what is lost in between is overdue again.
    if PendingEvaluation.divide(handover.bundle_id, parts):
        for bundle in alone:
            broker.run_script("enqueue", QUEUE, *bundle, 0)
    return len(events)

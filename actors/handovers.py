"""Events that were stored and, by whatever misfortune, never evaluated: found, and evaluated after all.

No guard sees what is lost with Redis' data itself: a machine that lost power, a backup that was restored, a key that
somebody deleted. PostgreSQL knows what it handed over.
"""

import msgspec
import structlog

from actors.broker import broker
from actors.messages import bundles, line
from models.database import connection
from models.event import Event
from models.handover import OVERDUE_SECONDS, Handover

log = structlog.get_logger()

QUEUE = "evaluate"


def resume(overdue_seconds: float = OVERDUE_SECONDS) -> int:
    """Evaluate again what was handed over so long ago and not confirmed; returns how many events.

    What merely waits in its queue is left there. Events among the dead stay dead. Redelivery changes nothing, so that
    one too many does no harm. Raises `redis.RedisError` or `peewee.PeeweeException` when a server is away.
    """
    with connection():
        overdue = Handover.overdue(overdue_seconds)
        waiting = _waiting([handover.bundle_id for handover in overdue])
        Handover.put_off(waiting)
        resumed = sum(_again(handover) for handover in overdue if handover.bundle_id not in waiting)
    if resumed:
        log.warning("evaluated_again", events=resumed)
    return resumed


def _waiting(bundle_ids: list[str]) -> list[str]:
    """Those that are still in their queue, or under way."""
    pipeline = broker.client.pipeline(transaction=False)
    for bundle_id in bundle_ids:
        pipeline.hexists(f"{broker.namespace}:{QUEUE}.msgs", bundle_id)
    return [bundle_id for bundle_id, waits in zip(bundle_ids, pipeline.execute(), strict=True) if waits]


def _again(handover: Handover) -> int:
    """Hand its events over as a new bundle; returns how many."""
    events = Event.alive(handover.event_ids)
    if not events:
        Handover.confirm([handover.bundle_id])
        return 0
    lines = [line(msgspec.json.encode(event.__data__), None) for event in events]
    bundle_id, bundle = bundles(QUEUE, lines, len(lines))
    # In this order: what is lost in between is overdue again.
    if Handover.renew(handover.bundle_id, bundle_id.decode()):
        broker.scripts["enqueue"](keys=[broker.namespace], args=[QUEUE, bundle_id, bundle, 0])
    return len(events)

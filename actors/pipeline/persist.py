"""Store each event once, then pass it on."""

import dramatiq
import msgspec

from actors.outages import through_outages
from actors.transport.batch import current_work
from actors.transport.messages import bundles, event_ids
from models.database import connection
from models.event import Event


@dramatiq.actor(queue_name="persist", batch=500, concurrency=2, max_retries=3, min_backoff=100)
@through_outages
def persist(*events: msgspec.Raw) -> None:
    """Insert the events in one statement and one commit; their `evaluate` messages leave with the acknowledgement.

    A repeated event changes nothing in the database and is evaluated again, which changes nothing either.
    """
    work = current_work()
    assert work is not None
    following = list(bundles("evaluate", work.lines, work.consumer.batch))
    with connection():
        Event.store(events, event_ids(following, work.lines))
    for bundle in following:
        work.outbox.add("evaluate", bundle.id, bundle.data)
    work.outbox.counts["persisted"] = len(events)

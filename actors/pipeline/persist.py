"""Store each event once, then pass it on."""

import dramatiq
import msgspec

from actors.outages import retry_on_outage
from actors.transport.batch import current_batch
from actors.transport.messages import bundles, event_ids
from models.database import connection
from models.event import Event


@dramatiq.actor(queue_name="persist", batch=500, concurrency=2, max_retries=3, min_backoff=100)
@retry_on_outage
def persist(*events: msgspec.Raw) -> None:
    """Insert the events in one statement and one commit; their `evaluate` messages leave with the acknowledgement.

    A repeated event changes nothing in the database and is evaluated again, which changes nothing either.
    """
    batch = current_batch()
    assert batch is not None
    following = list(bundles("evaluate", batch.records, batch.consumer.batch))
    with connection():
        Event.store(events, event_ids(following, batch.records))
    for bundle in following:
        batch.outbox.add("evaluate", bundle.id, bundle.data)
    batch.outbox.counts["persisted"] = len(events)

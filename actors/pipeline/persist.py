"""Stage that stores events in PostgreSQL and queues their evaluation."""

import dramatiq
import msgspec

from actors.outages import retry_on_outage
from actors.pipeline import conflicts
from actors.pipeline.records import event_ids
from actors.transport.batch import current_batch
from actors.transport.messages import make_bundles
from models.database import connection
from models.event import Event


@dramatiq.actor(queue_name="persist", batch=500, concurrency=2, max_retries=3, min_backoff=100)
@retry_on_outage
def persist(*events: msgspec.Raw) -> None:
    """Insert a batch of events in one statement, and add their `evaluate` messages to the outbox.

    An event that is already stored is not changed; it is evaluated again, which has no effect. A conflicting duplicate
    becomes a dead letter, and the stored event is evaluated instead.
    """
    batch = current_batch()
    assert batch is not None
    evaluations = list(make_bundles("evaluate", batch.records, batch.consumer.batch))
    with connection():
        stored = Event.store(events, event_ids(evaluations, batch.records))
        if stored < len(events) and (conflicting := Event.conflicts(events)):
            conflicts.dead_letter(conflicting, batch.records)
            evaluations = conflicts.with_stored_events(evaluations, conflicting, batch)
            batch.outbox.counts["conflicting"] = len(conflicting)
    for bundle in evaluations:
        batch.outbox.add("evaluate", bundle.id, bundle.data)
    batch.outbox.counts["persisted"] = len(events)

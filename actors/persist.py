"""Store each event once, then pass it on."""

import dramatiq
import msgspec

from actors.batching import current_work
from actors.guards import through_outages
from actors.messages import encode_events
from models.database import connection
from models.event import Event


@dramatiq.actor(queue_name="persist", batch=500, concurrency=2, max_retries=3, min_backoff=100)
@through_outages
def persist(*events: msgspec.Raw) -> None:
    """Insert the events in one statement and one commit; their `evaluate` messages leave with the acknowledgement.

    A repeated event changes nothing in the database and is evaluated again, which changes nothing either.
    """
    encoded = [bytes(event) for event in events]
    with connection():
        Event.store(encoded)
    work = current_work()
    assert work is not None
    request_ids = [member.options.get("request_id") for member in work.members]
    work.outbox.add_all("evaluate", encode_events("evaluate", encoded, request_ids))
    work.outbox.counts["persisted"] = len(encoded)

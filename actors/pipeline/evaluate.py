"""Stage that applies the rules to stored events, records the anomalies and queues their notifications."""

from collections.abc import Callable, Iterable, Sequence

import dramatiq
import msgspec

from actors import runtime
from actors.broker import broker
from actors.channels.wake import wake
from actors.outages import retry_on_outage
from actors.pipeline.record_firings import record_firings
from actors.pipeline.records import request_id_of
from actors.rule_state.rulebook import suspend
from actors.rule_state.windows.measured_window import sampled_window
from actors.transport.batch import current_batch
from actors.transport.entry_id import completed_bundles
from models.database import connection
from models.delivery import Delivery
from models.pending_evaluation import PendingEvaluation
from rules.engine.evaluate import evaluate_batch
from rules.event import Event

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
    window = sampled_window(broker.client)
    evaluation = evaluate_batch(events, runtime.current().rulebook.current(), window)
    for fault in evaluation.faults:
        suspend(fault.rule.rule_id, fault.rule.version, fault.reason)
    if evaluation.firings:
        recording = record_firings(evaluation.firings, _request_id(events, batch.records))
        announce(recording.deliveries)
        if recording.cooldowns:
            window.start_cooldowns(recording.cooldowns)
    with connection():
        PendingEvaluation.confirm(completed_bundles(batch.ids))
    batch.outbox.counts.update(evaluated=len(events), late=evaluation.late)


def announce(deliveries: Iterable[Delivery]) -> None:
    """Add one wake-up for the channels of the deliveries to the outbox of the batch."""
    wake(delivery.channel_id for delivery in deliveries)


def _request_id(events: Sequence[Event], records: Sequence[bytes]) -> Callable[[str], str | None]:
    """Return a function that returns the id of the HTTP request of an event of the batch, by event id."""
    by_id = {event.event_id: record for event, record in zip(events, records, strict=True)}
    return lambda event_id: request_id_of(by_id[event_id]) if event_id in by_id else None

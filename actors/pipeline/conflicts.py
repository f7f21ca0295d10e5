"""Conflicting duplicates: events whose id is already stored with other content."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog
from dramatiq.message import Message

from actors.pipeline.records import event_of, event_records, request_id_of
from actors.transport.batch import Batch
from actors.transport.messages import Bundle, make_bundles
from models.dead_letter import DeadLetter
from models.event import Conflict

log = structlog.get_logger()


def dead_letter(conflicts: Sequence[Conflict], records: Sequence[bytes]) -> None:
    """Store each conflicting duplicate as a dead letter, and log a warning. `records` are all records of the batch.

    The id of a dead letter is derived from the event id and the digest, so that a redelivery stores no second copy.
    """
    DeadLetter.add(_letter(conflict, records[conflict.position]) for conflict in conflicts)
    for conflict in conflicts:
        log.warning(
            "event_id_conflict",
            event_id=str(conflict.event_id),
            request_id=request_id_of(records[conflict.position]),
            stored_digest=conflict.stored_digest,
            digest=conflict.digest,
        )


def with_stored_events(evaluations: Sequence[Bundle], conflicts: Sequence[Conflict], batch: Batch) -> list[Bundle]:
    """Return the bundles with the stored event in place of each conflicting duplicate, for evaluation.

    The bundles keep their ids, because the pending evaluations are already stored with these ids.
    """
    records = list(batch.records)
    for conflict in conflicts:
        (records[conflict.position],) = event_records([conflict.stored], None)
    corrected = make_bundles("evaluate", records, batch.consumer.batch)
    return [Bundle(before.id, after.data) for before, after in zip(evaluations, corrected, strict=True)]


def _letter(conflict: Conflict, record: bytes) -> dict[str, Any]:
    letter_id = f"conflict-{conflict.event_id}-{conflict.digest}"
    request_id = request_id_of(record)
    message: Message[Any] = Message(
        queue_name="persist",
        actor_name="persist",
        args=(msgspec.Raw(event_of(record)),),
        kwargs={},
        options={"request_id": request_id} if request_id else {},
        message_id=letter_id,
        message_timestamp=time.time_ns() // 1_000_000,
    )
    return {
        "dead_letter_id": letter_id,
        "queue_name": "persist",
        "actor_name": "persist",
        "event_id": conflict.event_id,
        "request_id": request_id,
        "attempts": 1,
        "error": f"an event with this id and other content is already stored (stored digest {conflict.stored_digest},"
        f" digest of this event {conflict.digest}); a replay would fail again: send the event with a new id",
        "message": message.encode(),
    }

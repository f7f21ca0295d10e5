"""Stage that enqueues accepted events in Redis."""

from collections.abc import Sequence

from actors import runtime
from actors.pipeline.records import event_records
from actors.transport.errors import QueueUnavailable

RETRY_AFTER_SECONDS = 2.0


def check_accepting() -> None:
    """Raise `QueueUnavailable` if requests are rejected at the moment. Does not call Redis."""
    _raise_if(runtime.current().group_commit.rejection_reason())


def accept(events: Sequence[bytes], request_id: str | None) -> None:
    """Enqueue one `persist` message for each event, all or none, in a call to Redis that other requests may share.

    `events` are JSON objects; they are enqueued unchanged. When the function returns, Redis has confirmed that the
    events are on disk.

    Raises `QueueUnavailable` if Redis is unavailable, if Redis is configured to evict keys, or if the backlog or the
    memory of Redis has reached its limit. Then no event is enqueued; but if Redis did not reply in time, all events may
    be enqueued. The client can send the events again with the same ids.
    """
    _raise_if(runtime.current().group_commit.submit(event_records(events, request_id)))


def _raise_if(rejection: str | None) -> None:
    if rejection is not None:
        raise QueueUnavailable(rejection, RETRY_AFTER_SECONDS)

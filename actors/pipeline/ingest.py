"""Stage that enqueues accepted events in Redis."""

from collections.abc import Sequence

from actors import runtime
from actors.pipeline.records import event_records
from actors.transport.errors import QueueUnavailable

RETRY_AFTER_SECONDS = 2.0


def check_accepting() -> None:
    """Raise `QueueUnavailable` if ingest is rejecting requests. Does not call Redis."""
    _raise_if(runtime.current().group_commit.rejection_reason())


def accept(events: Sequence[bytes], request_id: str | None) -> None:
    """Enqueue one `persist` message for each event, all or none, in a call to Redis that other requests may share.

    `events` are JSON objects; they are enqueued unchanged. When the function returns, Redis has confirmed the events;
    with `appendfsync always`, they are on disk.

    Raises `QueueUnavailable` if Redis is unavailable, if Redis is configured to evict keys, or if the backlog or the
    memory of Redis has reached its limit. If the reply of Redis was lost, the events may be enqueued. After any error,
    the client can send the events again with the same ids.
    """
    _raise_if(runtime.current().group_commit.submit(event_records(events, request_id)))


def _raise_if(rejection: str | None) -> None:
    if rejection is not None:
        raise QueueUnavailable(rejection, RETRY_AFTER_SECONDS)

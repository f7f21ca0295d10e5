"""Events in the form in which HTTP clients send them."""

from collections.abc import Callable
from typing import Any

import msgspec

#: Function that returns the events in the queue `persist`, in the order of the queue.
Queued = Callable[[], list[dict[str, Any]]]


def event(event_id: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return a valid event. Keyword arguments that are not fields of events become fields of the payload."""
    made = {"event_type": "order.paid", "source": "checkout", "timestamp": "2026-11-20T12:00:00Z"}
    if event_id is not None:
        made["event_id"] = event_id
    own = {name: fields.pop(name) for name in list(fields) if name in (*made, "payload", "metadata")}
    return {**made, "payload": fields, **own}


def lines(*events: Any) -> bytes:
    """Return events as NDJSON."""
    return b"\n".join(msgspec.json.encode(each) for each in events)

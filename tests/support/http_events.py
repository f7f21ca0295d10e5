"""Events as clients send them."""

from typing import Any

import msgspec


def event(event_id: str | None = None, **fields: Any) -> dict[str, Any]:
    """A valid event. Fields that are not of an event go into its payload."""
    made = {"event_type": "order.paid", "source": "checkout", "timestamp": "2026-11-20T12:00:00Z"}
    if event_id is not None:
        made["event_id"] = event_id
    own = {name: fields.pop(name) for name in list(fields) if name in (*made, "payload", "metadata")}
    return {**made, "payload": fields, **own}


def lines(*events: Any) -> bytes:
    """Events as NDJSON."""
    return b"\n".join(msgspec.json.encode(each) for each in events)

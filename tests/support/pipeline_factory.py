"""Events, rules and anomalies of the pipeline for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import redis
from uuid_utils.compat import uuid7

from actors.pipeline import ingest
from actors.rule_state import rulebook
from models.anomaly import Anomaly
from models.database import connection
from models.delivery import Delivery
from models.rule import Rule


def event(seconds: float = 0, **fields: Any) -> bytes:
    """Return an event as JSON in the form in which the API queues it, with a timestamp `seconds` from now."""
    now = datetime.now(UTC)
    made = {
        "event_id": str(uuid7()),
        "event_type": "order",
        "source": "shop",
        "timestamp": now + timedelta(seconds=seconds),
        "payload": {"amount": 12.5},
        "metadata": {},
        "received_at": now,
    }
    return msgspec.json.encode(made | fields)


def accept(*events: bytes, request_id: str | None = None) -> None:
    """Enqueue events as ingest does for one request."""
    ingest.accept(events, request_id)


def rule(**fields: Any) -> Rule:
    """Store, publish and return a rule, which by default fires for more than two orders in a minute."""
    made: dict[str, Any] = {
        "name": "Many orders",
        "severity": "critical",
        "window_seconds": 60,
        "cooldown_seconds": 300,
        "allowed_lateness_seconds": 3600,
        "condition": {"type": "threshold", "filters": {"event_type": "order"}, "operator": ">", "value": 2},
    }
    with connection():
        row = Rule.add(**(made | fields))
    rulebook.publish()
    return row


def idle(client: redis.Redis) -> bool:
    """Return whether all messages of the pipeline and all deliveries are settled."""
    if any(client.exists(f"eventpulse:{queue}.msgs") for queue in ("persist", "evaluate", "notify", "channels")):
        return False
    with connection():
        return not Delivery.select().where(Delivery.status.in_(["pending", "sending"])).exists()


def anomalies() -> list[Anomaly]:
    """Return all anomalies, ordered by the time of their detection."""
    with connection():
        return list(Anomaly.select().order_by(Anomaly.detected_at))

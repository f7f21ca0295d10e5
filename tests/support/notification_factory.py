"""Notifications for tests."""

from datetime import UTC, datetime
from typing import Any

from notifiers.base import Notification


def notification(**fields: Any) -> Notification:
    """Return an alert about payment errors; `fields` replace its default values."""
    defaults: dict[str, Any] = {
        "kind": "alert",
        "subject_key": "anomaly:0193b1a0-0000-7000-8000-00000000000a",
        "anomaly_id": "0193b1a0-0000-7000-8000-00000000000a",
        "rule_id": "0193b1a0-0000-7000-8000-00000000000b",
        "rule_name": "High error rate",
        "severity": "critical",
        "message": "High error rate: 6 events in 60 s, more than 5 (source=payment_service)",
        "observed": "6",
        "threshold": "> 5",
        "window_seconds": 60,
        "group": {"source": "payment_service"},
        "event_id": "0193b1a0-0000-7000-8000-00000000000c",
        "occurred_at": datetime(2026, 11, 20, 3, 12, 45, tzinfo=UTC),
        "detected_at": datetime(2026, 11, 20, 3, 12, 45, 300_000, tzinfo=UTC),
        "evidence": ["03:12:45Z error payment_service code=card_declined"],
        "link": "https://alerts.example/api/v1/anomalies/0193b1a0",
    }
    return Notification(**(defaults | fields))

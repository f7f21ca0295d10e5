"""Storm anomalies for tests."""

from typing import Any
from uuid import UUID, uuid4

from models.anomaly import Anomaly
from models.base import now


def store_storm(rule: dict[str, Any]) -> Anomaly:
    """Store and return a storm anomaly, detected now, which marks the rule as storming since 2026-11-20 12:00."""
    created: Anomaly = Anomaly.create(
        dedupe_key=str(uuid4()),
        kind="storm",
        rule_id=UUID(str(rule["rule_id"])),
        rule_name=rule["name"],
        rule_version=rule["version"],
        severity=rule["severity"],
        group_key="{}",
        event_id=uuid4(),
        message="47 further firings in 60 s",
        evidence={"since": "2026-11-20T12:00:00Z", "storming": True},
        series="storm",
        cooldown_anchor=now(),
        occurred_at=now(),
    )
    return created

"""The notification of an anomaly."""

import json

from models.anomaly import Anomaly
from notifiers.base import Notification


def compose(anomaly: Anomaly, public_url: str) -> Notification:
    """What a person should know of an anomaly at first sight."""
    evidence = anomaly.evidence
    return Notification(
        kind="alert",
        subject_key=f"anomaly:{anomaly.anomaly_id}",
        anomaly_id=str(anomaly.anomaly_id),
        rule_id=str(anomaly.rule_id),
        rule_name=anomaly.rule_name,
        severity=anomaly.severity,
        message=anomaly.message,
        observed=f"{evidence.get('count', evidence['observed']) if 'limit' in evidence else evidence['observed']:g}",
        threshold=evidence.get("limit", f"{evidence['threshold']:g}"),
        window_seconds=evidence.get("window_seconds", 0),
        group=json.loads(anomaly.group_key),
        event_id=str(anomaly.event_id),
        occurred_at=anomaly.occurred_at,
        detected_at=anomaly.detected_at,
        evidence=[_line(sample) for sample in evidence["samples"]],
        link=f"{public_url}/api/v1/anomalies/{anomaly.anomaly_id}",
    )


def _line(sample: dict[str, object]) -> str:
    payload = json.dumps(sample["payload"], ensure_ascii=False, separators=(", ", ": "))
    return f"{sample['timestamp']} {sample['event_type']} {sample['source']} {payload}"

"""Notification of an anomaly."""

import json
from typing import Any

from models.anomaly import Anomaly
from notifiers.base import Notification
from rules.verdict import format_number


def compose(anomaly: Anomaly, public_url: str, runbook_url: str | None) -> Notification:
    """Return the notification of an anomaly; its link begins with `public_url`."""
    evidence = anomaly.evidence
    return Notification(
        kind="alert",
        subject_key=f"anomaly:{anomaly.anomaly_id}",
        anomaly_id=str(anomaly.anomaly_id),
        rule_id=str(anomaly.rule_id),
        rule_name=anomaly.rule_name,
        severity=anomaly.severity,
        message=anomaly.message,
        observed=_observed(evidence),
        threshold=evidence["limit"] if "limit" in evidence else format_number(evidence["threshold"]),
        window_seconds=evidence.get("window_seconds", 0),
        group=json.loads(anomaly.group_key),
        event_id=str(anomaly.event_id),
        occurred_at=anomaly.occurred_at,
        detected_at=anomaly.detected_at,
        evidence=[_line(sample) for sample in evidence["samples"]],
        link=f"{public_url}/api/v1/anomalies/{anomaly.anomaly_id}",
        runbook_url=runbook_url,
    )


def _observed(evidence: dict[str, Any]) -> str:
    """Return the observed value as text or, if it is only a lower bound and the events were counted, their number.

    The evidence has the key `limit` if the observed value is a lower bound.
    """
    count = evidence.get("count") if "limit" in evidence else None
    if count is None:
        return format_number(evidence["observed"])
    prefix = "at least " if evidence.get("count_is_lower_bound") else ""
    return prefix + format_number(count)


def _line(sample: dict[str, Any]) -> str:
    payload = json.dumps(sample["payload"], ensure_ascii=False, separators=(", ", ": "))
    if cut := sample.get("payload_cut"):
        payload += f" … ({cut['omitted_fields']} fields omitted, {cut['bytes']} bytes in total)"
    return f"{sample['timestamp']} {sample['event_type']} {sample['source']} {payload}"

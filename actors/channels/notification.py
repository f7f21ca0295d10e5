"""Notifications of an anomaly, of a digest, and of a channel that fails or works again."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from eventpulse.severity import SEVERITIES
from eventpulse.times import display_utc, iso_utc
from models.anomaly import Anomaly
from models.base import now
from models.channel_notice import ChannelNotice
from models.delivery_queue import ClaimedDigest
from notifiers.base import Notification
from notifiers.text import duration_text
from rules.verdict import format_number

#: Maximum number of rules that the message of a digest names.
MAX_DIGEST_RULES = 5


def compose(anomaly: Anomaly, public_url: str, runbook_url: str | None) -> Notification:
    """Return the notification of an anomaly; its link begins with `public_url`.

    Raises `LookupError`, `TypeError` or `ValueError` if this version cannot read the evidence.
    """
    evidence = anomaly.evidence
    return replace(
        compose_without_evidence(anomaly, public_url),
        observed=_observed(evidence),
        threshold=evidence["limit"] if "limit" in evidence else format_number(evidence["threshold"]),
        window_seconds=evidence.get("window_seconds", 0),
        group=json.loads(anomaly.group_key),
        evidence=[_line(sample) for sample in evidence["samples"]],
        runbook_url=runbook_url,
    )


def compose_without_evidence(anomaly: Anomaly, public_url: str) -> Notification:
    """Return a short notification of an anomaly whose evidence this version cannot read."""
    return Notification(
        kind="alert",
        subject_key=f"anomaly:{anomaly.anomaly_id}",
        anomaly_id=str(anomaly.anomaly_id),
        rule_id=str(anomaly.rule_id),
        rule_name=anomaly.rule_name,
        severity=anomaly.severity,
        message=anomaly.message,
        event_id=str(anomaly.event_id),
        occurred_at=anomaly.occurred_at,
        detected_at=anomaly.detected_at,
        link=f"{public_url}/api/v1/anomalies/{anomaly.anomaly_id}",
    )


def compose_digest(digest: ClaimedDigest, public_url: str) -> Notification:
    """Return the notification that announces all anomalies of a digest, with their numbers by rule and severity."""
    total = sum(group.size for group in digest.groups)
    by_rule, by_severity = Counter[str](), Counter[str]()
    for group in digest.groups:
        by_rule[group.rule_name] += group.size
        by_severity[group.severity] += group.size
    severities = sorted(by_severity, key=SEVERITIES.index, reverse=True)
    first, last = min(group.first for group in digest.groups), max(group.last for group in digest.groups)
    title = f"{total:,} further alert{'' if total == 1 else 's'}"
    return Notification(
        kind="digest",
        subject_key=f"digest:{digest.digest_id}",
        rule_name=title,
        severity=severities[0],
        message=f"{title}: {_rules(by_rule)}; {', '.join(_plural(by_severity[name], name) for name in severities)}",
        occurred_at=first,
        detected_at=last,
        evidence=[f"{name}: {count:,}" for name, count in by_rule.most_common()],
        link=f"{public_url}/api/v1/anomalies?{urlencode({'from': iso_utc(first), 'to': iso_utc(last)})}",
    )


def compose_notice(notice: ChannelNotice, public_url: str) -> Notification:
    """Return the notification that another channel is failing or works again."""
    waiting = f"{notice.waiting:,} alert{'' if notice.waiting == 1 else 's'} waiting"
    if notice.is_failing:
        text = f"is failing since {display_utc(notice.failing_since)}: {notice.reason}; {waiting}"
    else:
        minutes = round((notice.created_at - notice.failing_since).total_seconds() / 60)
        text = f"works again after {duration_text(minutes * 60)}; {waiting}"
    return Notification(
        kind="channel",
        subject_key=f"channel:{notice.subject_id}",
        rule_name=f"Channel {notice.subject_name} {'is failing' if notice.is_failing else 'works again'}",
        severity="warning" if notice.is_failing else "info",
        message=f"Channel {notice.subject_name} {text}",
        occurred_at=notice.failing_since if notice.is_failing else notice.created_at,
        detected_at=now(),
        link=f"{public_url}/api/v1/channels/{notice.subject_id}",
    )


def _rules(counts: Counter[str]) -> str:
    named = [f"{name} {count:,}" for name, count in counts.most_common(MAX_DIGEST_RULES)]
    others = len(counts) - len(named)
    return ", ".join(named) + (f" and {others} more rule{'' if others == 1 else 's'}" if others else "")


def _plural(count: int, severity: str) -> str:
    return f"{count:,} warnings" if severity == "warning" and count != 1 else f"{count:,} {severity}"


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

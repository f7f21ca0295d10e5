"""Interface between the application and its notification channels."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Content of an alert for one anomaly, or of a test message for a channel.

    kind: `alert` for an anomaly, `test` for a test of the channel.
    subject_key: id of the subject, `anomaly:<anomaly_id>` or `channel:<channel_id>`; the same for all notifications
        about one subject.
    severity: `critical`, `warning` or `info`.
    message: one line; the message of an alert begins with the rule's name.
    observed, threshold: texts for display, such as `6` and `> 5`.
    window_seconds: 0 for a rule without a window.
    group: value of the event at each path by which the rule groups; empty for a rule without groups.
    evidence: one line for each sample event.
    occurred_at, detected_at: times with a time zone.
    link: URL of the anomaly, or None.
    runbook_url: URL of the instructions for handling this alert, or None.
    """

    kind: Literal["alert", "test"]
    subject_key: str
    anomaly_id: str
    rule_id: str
    rule_name: str
    severity: str
    message: str
    observed: str
    threshold: str
    window_seconds: int
    group: dict[str, Any]
    event_id: str
    occurred_at: datetime
    detected_at: datetime
    evidence: list[str]
    link: str | None
    runbook_url: str | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Confirmation of a successful delivery.

    text: short summary of the channel's response, for display.
    reference: id of the message or request at the channel's provider, or None.
    """

    text: str
    reference: str | None = None


class TryAgain(Exception):
    """Temporary failure of a delivery: a later attempt may succeed.

    after_seconds: delay that the channel requested, or None.
    """

    def __init__(self, reason: str, after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_seconds = after_seconds


class Undeliverable(Exception):
    """Permanent failure of a delivery: a later attempt would fail too, for example after a rejection by the channel."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Notifier(Protocol):
    """Sender of notifications to channels of one kind."""

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        """Deliver the notification to the channel that has these settings.

        Raises `TryAgain` or `Undeliverable`. Their reasons contain no secret.
        """
        ...

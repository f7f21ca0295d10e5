"""Interface between the application and its notification channels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Content of a message to a channel.

    kind: `alert` for an anomaly, `test` for a test of the channel, `digest` for many anomalies that a channel was too
        slow for, `channel` for the state of another channel.
    subject_key: id of the subject, `anomaly:<anomaly_id>`, `digest:<digest_id>` or `channel:<channel_id>`; the same
        for all notifications about one subject.
    rule_name: name of the rule, or a title for a digest and for the state of a channel.
    severity: `critical`, `warning` or `info`; the highest severity in a digest.
    message: one line; the message of an alert begins with the rule's name.
    observed, threshold: texts for display, such as `6` and `> 5`; empty if there is no single value.
    window_seconds: 0 for a rule without a window.
    group: value of the event at each path by which the rule groups; empty for a rule without groups.
    evidence: one line for each sample event or, in a digest, for each rule.
    occurred_at, detected_at: times with a time zone; in a digest, the times of the first and the last anomaly.
    link: URL of the anomaly, of the anomalies of a digest, or of the channel; None if there is no page.
    runbook_url: URL of the instructions for handling this alert, or None.
    """

    kind: Literal["alert", "test", "digest", "channel"]
    subject_key: str
    anomaly_id: str = ""
    rule_id: str = ""
    rule_name: str
    severity: str
    message: str
    observed: str = ""
    threshold: str = ""
    window_seconds: int = 0
    group: dict[str, Any] = field(default_factory=dict)
    event_id: str = ""
    occurred_at: datetime
    detected_at: datetime
    evidence: list[str] = field(default_factory=list)
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
    is_throttled: whether the channel works, but accepts notifications only at a slower pace.
    """

    def __init__(self, reason: str, after_seconds: float | None = None, *, is_throttled: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_seconds = after_seconds
        self.is_throttled = is_throttled


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


@runtime_checkable
class RemoteNotifier(Notifier, Protocol):
    """Sender that waits for a remote server; many sends share one thread, the event loop of `HttpClient`."""

    async def send_async(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:
        """Deliver the notification, as `send` does. Must run on the event loop of the `HttpClient`."""
        ...

"""What a notifier is given, what it answers, and the two ways it may fail."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

import marshmallow


@dataclass(frozen=True, slots=True)
class Notification:
    """One anomaly, ready to be told.

    `severity` is critical, warning or info. `message` says it all in one line, beginning with the rule's name.
    `observed` and `threshold` are words (`6`, `> 5`).
    `window_seconds` is 0 for a rule that looks at single events. `group` is what the rule grouped by, empty
    when by nothing. `evidence` has a line for each sample. The times carry a zone. `link` leads to the anomaly.
    """

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


class TryAgain(Exception):
    """The channel did not take it now; later it may. `after_seconds`: when the channel said so itself."""

    def __init__(self, reason: str, after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_seconds = after_seconds


class Undeliverable(Exception):
    """The channel said no for good: trying again would not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Notifier(Protocol):
    """One kind of channel: `settings_schema` says what it must be told, `secrets` names what of that is never shown."""

    settings_schema: ClassVar[type[marshmallow.Schema]]
    secrets: ClassVar[frozenset[str]]

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> str:
        """Deliver, and return a receipt: a few words on what the channel answered.

        Raises `TryAgain` or `Undeliverable`, whose reasons hold no secret.
        """
        ...


class NoSettings(marshmallow.Schema):
    """For kinds of channels that need to be told nothing."""

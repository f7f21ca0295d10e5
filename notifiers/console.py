"""Console channels: alerts on the standard output of the worker, for a terminal or for a log file."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from eventpulse.logs import use_colour
from eventpulse.times import display_utc
from notifiers.base import Notification, Receipt, TryAgain
from notifiers.kind import ChannelKind, NoSettings
from notifiers.text import delay_text, duration_text, headline, one_line, period_text

COLOURS = {"critical": "\033[1;31m", "warning": "\033[1;33m", "info": "\033[1;34m"}
RESET = "\033[0m"
MAX_LINE_CHARACTERS = 300
MAX_EVIDENCE_LINES = 3
#: Name of an evidence line, by kind of notification.
_EVIDENCE = {"alert": "Event", "test": "Event", "digest": "Rule", "channel": "Event"}


class Console:
    """Notifier that writes to `stream`; by default, to the value of `sys.stdout` at the time of sending."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:  # noqa: ARG002 - no settings
        stream = self._stream or sys.stdout
        encoding = stream.encoding or "utf-8"
        first, *others = _lines(notification)
        try:
            if use_colour(stream):
                first = f"{COLOURS.get(notification.severity, '')}{first}{RESET}"
            alert = "\n    ".join([first, *others]) + "\n"
            # A single write, so that the lines of alerts from several threads do not mix. Characters that the stream
            # cannot encode are escaped, because they would raise UnicodeEncodeError.
            stream.write(alert.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            raise TryAgain(f"cannot write to the console: {type(error).__name__}") from error
        return Receipt("written to the console")


def _lines(notification: Notification) -> Iterator[str]:
    """Yield the lines of an alert, each safe for a terminal and at most `MAX_LINE_CHARACTERS` long."""
    for line in (
        headline(notification),
        *([_observation(notification)] if notification.observed else []),
        _times(notification),
        *(f"{_EVIDENCE[notification.kind]}: {line}" for line in notification.evidence[:MAX_EVIDENCE_LINES]),
        *([f"Runbook: {notification.runbook_url}"] if notification.runbook_url else []),
        f"Details: {notification.link}" if notification.link else f"Anomaly: {notification.anomaly_id}",
    ):
        yield one_line(line, MAX_LINE_CHARACTERS)


def _times(notification: Notification) -> str:
    occurred, detected = display_utc(notification.occurred_at), display_utc(notification.detected_at)
    if notification.kind == "digest":
        return period_text(occurred, detected)
    return f"Occurred at {occurred}, detected at {detected}{delay_text(notification)}"


def _observation(notification: Notification) -> str:
    observation = f"Observed: {notification.observed}, threshold: {notification.threshold}"
    if notification.window_seconds:
        observation += f", window: {duration_text(notification.window_seconds)}"
    return observation


KIND = ChannelKind("console", NoSettings, lambda _context: Console(), is_local=True)

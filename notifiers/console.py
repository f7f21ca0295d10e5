"""The console: alerts between the lines of a terminal, or of whatever reads the output."""

import os
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, TextIO

import marshmallow

from notifiers.base import NoSettings, Notification, Receipt, TryAgain
from notifiers.text import delay, duration, headline, one_line

COLOURS = {"critical": "\033[1;31m", "warning": "\033[1;33m", "info": "\033[1;34m"}
RESET = "\033[0m"
LINE = 300
EVIDENCE_LINES = 3


class Console:
    """Writes to `stream`, by default to what is standard output at that moment."""

    settings_schema: ClassVar[type[marshmallow.Schema]] = NoSettings
    secrets: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def send(self, notification: Notification, settings: Mapping[str, Any]) -> Receipt:  # noqa: ARG002 — there are none
        stream = self._stream or sys.stdout
        encoding = stream.encoding or "utf-8"
        first, *others = _lines(notification)
        try:
            if _colours(stream):
                first = f"{COLOURS.get(notification.severity, '')}{first}{RESET}"
            alert = "\n    ".join([first, *others]) + "\n"
            # One write, so that the alerts of several threads do not mix. An ASCII pipe gets \u2026 for …
            stream.write(alert.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            raise TryAgain(f"cannot write to the console: {type(error).__name__}") from error
        return Receipt("written")


def _colours(stream: TextIO) -> bool:
    """On a terminal, or behind a pipe for which `FORCE_COLOR` speaks."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def _lines(notification: Notification) -> Iterator[str]:
    yield one_line(headline(notification), LINE)
    window = f" in {duration(notification.window_seconds)}" if notification.window_seconds else ""
    yield one_line(f"observed {notification.observed}, threshold {notification.threshold}{window}", LINE)
    yield f"happened {_time(notification.occurred_at)}, detected {_time(notification.detected_at)}{delay(notification)}"
    if notification.runbook_url:
        yield one_line(f"runbook {notification.runbook_url}", LINE)
    for evidence in notification.evidence[:EVIDENCE_LINES]:
        yield one_line(f"- {evidence}", LINE)
    yield one_line(notification.link or f"anomaly {notification.anomaly_id}", LINE)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")

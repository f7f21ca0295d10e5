"""Texts that Slack and console channels share."""

from eventpulse.visible_text import visible
from notifiers.base import Notification

ELLIPSIS = "…"


def one_line(text: str, max_characters: int) -> str:
    r"""Return the text as one line of at most `max_characters`; a text that was cut ends with `…`.

    Unprintable characters, which could control a terminal or hide text, become escapes: a newline becomes \n.
    """
    escaped = visible(text[: max_characters + 1])
    if len(escaped) <= max_characters:
        return escaped
    return escaped[: max_characters - len(ELLIPSIS)] + ELLIPSIS


def headline(notification: Notification) -> str:
    """Return the label and the message of a notification as one line."""
    return f"{label(notification)}: {notification.message or notification.rule_name}"


def label(notification: Notification) -> str:
    """Return the first word of a notification: the severity of an alert, otherwise the kind, in upper case."""
    return (notification.severity if notification.kind == "alert" else notification.kind).upper()


def period_text(first: str, last: str) -> str:
    """Return the text for the period of a digest."""
    return f"Detected from {first} to {last}"


def delay_text(notification: Notification) -> str:
    """Return text such as ` (3 min later)` if an anomaly was detected a minute or more after its event, else "".

    The cause of such a delay is a backlog, or an event that arrived late.
    """
    minutes = int((notification.detected_at - notification.occurred_at).total_seconds()) // 60
    return f" ({duration_text(minutes * 60)} later)" if minutes > 0 else ""


def duration_text(seconds: int) -> str:
    """Return the duration in the largest unit that needs no fraction, such as `45 s`, `5 min` or `2 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"

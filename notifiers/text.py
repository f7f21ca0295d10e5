"""What every channel says in the same words."""

import unicodedata

from notifiers.base import Notification

ELLIPSIS = "…"
#: Control characters, invisible formatting (writing direction, too), lone surrogates, separators of lines.
UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: Invisible, yet parts of ordinary words and emoji: the zero-width (non-)joiner.
JOINERS = "\u200c\u200d"


def one_line(text: str, limit: int) -> str:
    r"""The text in one line of at most `limit` characters, cut visibly.

    What could command a terminal or hide text is made visible: a newline becomes \n.
    """
    shown = "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in UNPRINTABLE and char not in JOINERS
        else char
        for char in text[: limit + 1]
    )
    return shown if len(shown) <= limit else shown[: limit - len(ELLIPSIS)] + ELLIPSIS


def headline(notification: Notification) -> str:
    """Return the notification in one sentence."""
    return f"{label(notification)}: {notification.message or notification.rule_name}"


def label(notification: Notification) -> str:
    """Return the word that a notification begins with: `TEST`, or the severity of the alert."""
    return "TEST" if notification.kind == "test" else notification.severity.upper()


def delay(notification: Notification) -> str:
    """`, 3 min later` when it was detected more than a minute after it happened: out of a backlog, or a late event."""
    minutes = int((notification.detected_at - notification.occurred_at).total_seconds()) // 60
    return f", {duration(minutes * 60)} later" if minutes > 0 else ""


def duration(seconds: int) -> str:
    """In the largest unit that needs no fraction: `45 s`, `5 min`, `2 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"

"""What every channel says in the same words."""

import json
import unicodedata
from typing import Any

from notifiers.base import Notification

ELLIPSIS = "…"
#: Control characters, invisible formatting (writing direction, too), lone surrogates, separators of lines.
UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: Invisible, yet parts of ordinary words and emoji: the zero-width (non-)joiner.
JOINERS = "\u200c\u200d"


def line(text: str, limit: int) -> str:
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
    """The alert in one sentence."""
    return f"{notification.severity.upper()}: {notification.message or notification.rule_name}"


def group(values: dict[str, Any]) -> str:
    """`source=payment_service, region=eu`"""
    return ", ".join(f"{name}={_word(value)}" for name, value in values.items())


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def duration(seconds: int) -> str:
    """In the largest unit that needs no fraction: `45 s`, `5 min`, `2 h`."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"

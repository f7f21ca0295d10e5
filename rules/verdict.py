"""Verdict of a rule, as text and numbers: the source of an anomaly's message and evidence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MAX_VALUE_CHARACTERS = 80  # clients choose the values of a group, and a long value must not fill the alert


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a condition for one event. `reason` states `observed` and `threshold` as text.

    `details` has further JSON values. The key "limit", with a text such as "more than 5", is present if `observed` is
    only a lower bound; then the caller can count the stored events of the window.
    """

    fires: bool
    reason: str
    observed: float
    threshold: float
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """Selection of the stored events that caused a verdict: the events in `(after, until]` that match `equal`.

    equal: values by path; an event matches if it has one of the values at each path. The value None matches a path that
    is missing or null.
    """

    equal: dict[str, list[Any]]
    after: datetime
    until: datetime


def format_number(value: float) -> str:
    """Return the number as text with at most 10 significant digits: "5" for 5.0."""
    return f"{value:.10g}"


def format_count(count: float) -> str:
    """Return the number of events as text, such as "1 event"."""
    return f"{format_number(count)} event{'' if count == 1 else 's'}"


def format_group(group: Mapping[str, Any]) -> str:
    """Return the group as text for the end of a message, such as " (source=checkout)"; "" for a rule without groups."""
    if not group:
        return ""
    return f" ({', '.join(f'{path}={_short(value)}' for path, value in group.items())})"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"

"""The conclusion of a rule, as text and numbers: the source of an anomaly's message and evidence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MAX_VALUE_CHARACTERS = 80  # a client chooses the values of a group: a long one must not fill the alert


@dataclass(frozen=True, slots=True)
class Verdict:
    """A conclusion: `reason` states `observed` and `threshold` as text.

    `details` holds further JSON values. Its key "limit", such as "more than 5", is present if `observed` is a
    lower bound: the caller should then count the events of the window.
    """

    fires: bool
    reason: str
    observed: float
    threshold: float
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """The stored events behind a verdict: those in `(after, until]` that have one of the values of each path.

    The value None stands for a path that is missing or null.
    """

    equal: dict[str, list[Any]]
    after: datetime
    until: datetime


def format_number(value: float) -> str:
    """Return a number without a needless fraction: "5" for 5.0."""
    return f"{value:.10g}"


def format_count(count: float) -> str:
    """Return a number of events, such as "1 event"."""
    return f"{format_number(count)} event{'' if count == 1 else 's'}"


def format_group(group: Mapping[str, Any]) -> str:
    """Return the group as a suffix, such as " (source=checkout)"; "" for a rule without groups."""
    if not group:
        return ""
    return f" ({', '.join(f'{path}={_short(value)}' for path, value in group.items())})"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"

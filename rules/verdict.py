"""What a rule concludes, in words and numbers: they become the anomaly's message and evidence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

MAX_VALUE_CHARACTERS = 80  # of a group, in characters: a client chose it, and it must not fill the alert


@dataclass(frozen=True, slots=True)
class Verdict:
    """A conclusion: `reason` says in words what `observed` and `threshold` say in numbers.

    `details` are further numbers, JSON all of them. Its `limit`, such as "more than 5", is there when
    `observed` is only the least that the window holds, so that the real count is worth reading.
    """

    fires: bool
    reason: str
    observed: float
    threshold: float
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """The stored events behind a verdict: those in `(after, until]` whose paths have one of the values given.

    The value None stands for a path that is missing or null.
    """

    equal: dict[str, list[Any]]
    after: datetime
    until: datetime


def number(value: float) -> str:
    """A number as people write it: 5, not 5.0."""
    return f"{value:.10g}"


def events(count: float) -> str:
    return f"{number(count)} event{'' if count == 1 else 's'}"


def words(group: Mapping[str, Any]) -> str:
    """The group in brackets, such as " (source=checkout)"; nothing for the group of all events."""
    if not group:
        return ""
    return f" ({', '.join(f'{path}={_short(value)}' for path, value in group.items())})"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else text[: MAX_VALUE_CHARACTERS - 1] + "…"

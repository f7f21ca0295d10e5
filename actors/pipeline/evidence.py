"""Evidence of anomalies: the verdict of the rule, and stored events that caused the verdict."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import peewee
import structlog

from actors import runtime
from eventpulse.times import iso_utc
from models.database import is_too_slow
from models.event import Event
from models.window_events import Window, WindowEvents, read_windows
from rules.engine.series import Firing

log = structlog.get_logger()

#: Maximum time for reading the windows of one batch, because it delays the alerts.
BUDGET_MS = 250
#: Number of rows that the query of one rule and batch counts in all windows, and the limits for one window.
MAX_ROWS, MIN_ROWS_OF_WINDOW, MAX_ROWS_OF_WINDOW = 100_000, 1_000, 10_000


def collect(firings: Sequence[Firing]) -> list[dict[str, Any]]:
    """Return the evidence of each firing as JSON values. Must be called in a transaction.

    Keys: `reason`, `observed`, `threshold` and the details of the verdict; `samples`, a list of events. For a rule with
    a window also `count`, `first` and `last`; `count_is_lower_bound` is present if not all events were counted. If the
    windows of a rule cannot be read within `BUDGET_MS`, the triggering event is the only sample, there is no count,
    and the windows of the rule are not read again for a while.
    """
    windows = _windows(firings)
    sample_ids = [window.newest if (window := windows.get(n)) else [UUID(f.event_id)] for n, f in enumerate(firings)]
    summaries = Event.summaries({event_id for ids in sample_ids for event_id in ids})
    return [
        {
            **(_counts(windows[position]) if position in windows else {}),
            "samples": [summaries[event_id] for event_id in sample_ids[position] if event_id in summaries],
            "reason": firing.verdict.reason,
            "observed": firing.verdict.observed,
            "threshold": firing.verdict.threshold,
            **firing.verdict.details,
        }
        for position, firing in enumerate(firings)
    ]


def _counts(window: WindowEvents) -> dict[str, Any]:
    return {
        "count": window.total,
        **({"count_is_lower_bound": True} if window.is_lower_bound else {}),
        "first": window.first and iso_utc(window.first),
        "last": window.last and iso_utc(window.last),
    }


def _windows(firings: Sequence[Firing]) -> dict[int, WindowEvents]:
    """Return the events of the windows by position of the firing, with one query for each rule."""
    by_rule: dict[str, list[int]] = defaultdict(list)
    for position, firing in enumerate(firings):
        if firing.selection:
            by_rule[firing.rule.rule_id].append(position)
    deadline = time.monotonic() + BUDGET_MS / 1000
    windows: dict[int, WindowEvents] = {}
    for rule_id, positions in by_rule.items():
        windows |= zip(positions, _read(rule_id, [firings[n] for n in positions], deadline), strict=False)
    return windows


def _read(rule_id: str, firings: Sequence[Firing], deadline: float) -> Sequence[WindowEvents]:
    """Return the events of the windows of one rule; nothing if the rule is paused or the query is too slow."""
    pauses = runtime.current().evidence_pauses
    left_ms = int((deadline - time.monotonic()) * 1000)
    if left_ms < 1 or pauses.is_paused(rule_id):
        return ()
    max_rows = min(MAX_ROWS_OF_WINDOW, max(MIN_ROWS_OF_WINDOW, MAX_ROWS // len(firings)))
    try:
        return read_windows(list(_selected(firings)), max_rows, left_ms)
    except peewee.OperationalError as error:
        if not is_too_slow(error):
            raise
        # An alert without samples is better than a late alert.
        pauses.pause(rule_id)
        log.warning("evidence_too_slow", rule_id=rule_id, firings=len(firings), budget_ms=BUDGET_MS)
        return ()


def _selected(firings: Sequence[Firing]) -> Iterator[Window]:
    for firing in firings:
        assert firing.selection is not None
        yield Window(firing.selection.equal, firing.selection.after, firing.selection.until)

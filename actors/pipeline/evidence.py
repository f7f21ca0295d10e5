"""Evidence of an anomaly: the verdict of the rule, and stored events that caused the verdict."""

from typing import Any
from uuid import UUID

import peewee

from eventpulse.times import iso_utc
from models.database import database, is_too_slow
from models.event import Event
from rules.engine.evaluate import Firing
from rules.verdict import Selection

#: Timeout of each query for the exact count or the samples of a window, because these queries delay the alert.
EVIDENCE_TIMEOUT_MS = 2_000


def collect(firing: Firing) -> dict[str, Any]:
    """Return the evidence of a firing as JSON values. Requires an open database connection.

    Keys: `reason`, `observed`, `threshold` and the details of the verdict; `samples`, a list of events. For a rule with
    a window also `count`, `first` and `last`, unless a query takes longer than `EVIDENCE_TIMEOUT_MS`.
    """
    verdict = firing.verdict
    stored = _triggering_event(firing.event_id) if firing.selection is None else _window(firing.selection)
    return {
        **stored,
        "reason": verdict.reason,
        "observed": verdict.observed,
        "threshold": verdict.threshold,
        **verdict.details,
    }


def _triggering_event(event_id: str) -> dict[str, Any]:
    event = Event.get_or_none(Event.event_id == UUID(event_id))
    return {"samples": [event.summary()] if event else []}


def _window(selection: Selection) -> dict[str, Any]:
    try:
        with database.atomic():
            database.execute_sql("SET LOCAL statement_timeout = %s", (EVIDENCE_TIMEOUT_MS,))
            evidence = Event.evidence(selection.equal, selection.after, selection.until)
    except peewee.OperationalError as error:
        if not is_too_slow(error):
            raise
        return {"samples": []}  # an alert without samples is better than a late alert
    return {
        "count": evidence.count,
        "first": evidence.first and iso_utc(evidence.first),
        "last": evidence.last and iso_utc(evidence.last),
        "samples": evidence.samples,
    }

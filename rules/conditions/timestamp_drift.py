"""Condition type `timestamp_drift`: the timestamp of an event is far from its time of arrival."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from marshmallow import fields, validate

from rules.conditions.base import ConditionSchema
from rules.conditions.fields import Filters, StrictNumber
from rules.event import SECOND, Event, microseconds
from rules.scope import Scope
from rules.verdict import Verdict, format_number


@dataclass(frozen=True, slots=True)
class TimestampDrift:
    """Condition that fires if a timestamp is more than `max_drift_seconds` before or after the arrival of its event."""

    windowed: ClassVar[Literal[False]] = False
    scope: Scope
    max_drift_seconds: float

    def evaluate(self, event: Event, group_suffix: str) -> Verdict:
        drift = (microseconds(event.timestamp) - microseconds(event.received_at)) / SECOND
        fires = abs(drift) > self.max_drift_seconds
        direction = "after" if drift > 0 else "before"
        limit = f"{'' if fires else 'not '}more than {format_number(self.max_drift_seconds)} s"
        reason = f"timestamp {format_number(abs(drift))} s {direction} the arrival, {limit}{group_suffix}"
        return Verdict(fires, reason, abs(drift), self.max_drift_seconds, {"drift_seconds": drift})


class TimestampDriftSchema(ConditionSchema):
    """Fields of a `timestamp_drift` condition."""

    type = fields.String(required=True, validate=validate.Equal("timestamp_drift"))
    filters = Filters()
    max_drift_seconds = StrictNumber(required=True, validate=validate.Range(0, min_inclusive=False))

    def build(self, values: Mapping[str, Any]) -> TimestampDrift:
        return TimestampDrift(Scope.of(values["filters"], ["source"]), values["max_drift_seconds"])

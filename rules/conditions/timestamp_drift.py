"""Events whose own time is far from the time at which they arrived."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from marshmallow import fields, validate

from rules.conditions.base import ConditionSchema
from rules.conditions.fields import Filters, Number
from rules.event import SECOND, Event, microseconds
from rules.scope import Scope
from rules.verdict import Verdict, number


@dataclass(frozen=True, slots=True)
class TimestampDrift:
    """Fires for an event that is more than so many seconds early or late."""

    windowed: ClassVar[Literal[False]] = False
    scope: Scope
    max_drift_seconds: float

    def judge(self, event: Event, where: str) -> Verdict:
        drift = (microseconds(event.timestamp) - microseconds(event.received_at)) / SECOND
        fires = abs(drift) > self.max_drift_seconds
        direction = "ahead of" if drift > 0 else "behind"
        limit = f"{'' if fires else 'not '}more than {number(self.max_drift_seconds)} s"
        reason = f"event time {number(abs(drift))} s {direction} its arrival, {limit}{where}"
        return Verdict(fires, reason, abs(drift), self.max_drift_seconds, {"drift_seconds": drift})


class TimestampDriftSchema(ConditionSchema):
    type = fields.String(required=True, validate=validate.Equal("timestamp_drift"))
    filters = Filters(load_default=dict)
    max_drift_seconds = Number(required=True, validate=validate.Range(0, min_inclusive=False))

    def build(self, values: Mapping[str, Any]) -> TimestampDrift:
        return TimestampDrift(Scope.of(values["filters"], ["source"]), values["max_drift_seconds"])

"""How many events in a window, against a number."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import ceil, floor
from typing import Any, ClassVar, Literal

from marshmallow import fields, validate

from rules.conditions.base import ConditionSchema
from rules.conditions.fields import MAX_COUNT, Filters, Number, Path
from rules.event import moment
from rules.scope import Scope
from rules.verdict import Selection, Verdict, events, number
from rules.windows.queries import Count, Run, WindowResult

#: Each operator, and how a limit with it is read out.
OPERATORS = {
    ">": (operator.gt, "more than"),
    ">=": (operator.ge, "at least"),
    "<": (operator.lt, "fewer than"),
    "<=": (operator.le, "at most"),
    "==": (operator.eq, "exactly"),
    "!=": (operator.ne, "other than"),
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """Fires for an event when the `window_seconds` that end with it hold so many events of its group.

    For > and >= it fires for the same events in whatever order they arrive. The other operators are
    decided when an event arrives, by what has arrived until then.
    """

    windowed: ClassVar[Literal[True]] = True
    scope: Scope
    operator: str
    value: float
    window_seconds: int
    question: Run | Count
    #: What is counted, in words.
    what: str = "events"

    def judge(self, sighting: WindowResult, where: str) -> Verdict:
        compare, words = OPERATORS[self.operator]
        fires = compare(sighting.count, self.value)
        limit = f"{words} {number(self.value)}"
        details: dict[str, Any] = {"window_seconds": self.window_seconds}
        if isinstance(self.question, Run):
            details["limit"] = limit
            reason = f"{limit} {self.what} in {self.window_seconds} s"
        else:
            reason = f"{events(sighting.count)} in {self.window_seconds} s, {'' if fires else 'not '}{limit}"
        return Verdict(fires, reason + where, sighting.count, self.value, details)

    def selection(self, at: int, group: Mapping[str, Any]) -> Selection:
        until = moment(at)
        return Selection(self.scope.equal(group), until - timedelta(seconds=self.window_seconds), until)


def question(operator: str, value: float, window_seconds: int, allowed_lateness_seconds: int) -> Run | Count:
    """What decides `count <operator> value`: a run of the fewest events that it takes, or else the count."""
    if operator == ">=":
        return Run.of(max(1, ceil(value)), window_seconds, allowed_lateness_seconds)
    kind = Run if operator == ">" else Count
    return kind.of(floor(value) + 1, window_seconds, allowed_lateness_seconds)


class ThresholdSchema(ConditionSchema):
    type = fields.String(required=True, validate=validate.Equal("threshold"))
    metric = fields.String(load_default="count", validate=validate.OneOf(["count"]))
    filters = Filters(load_default=dict)
    group_by = fields.List(Path(), load_default=list)
    operator = fields.String(required=True, validate=validate.OneOf(list(OPERATORS)))
    value = Number(required=True, validate=validate.Range(0, MAX_COUNT))

    def build(self, values: Mapping[str, Any]) -> Threshold:
        scope = Scope.of(values["filters"], values["group_by"])
        compare, value, window = values["operator"], values["value"], values["window_seconds"]
        return Threshold(
            scope, compare, value, window, question(compare, value, window, values["allowed_lateness_seconds"])
        )

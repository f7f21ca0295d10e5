"""Condition type `threshold`: comparison of the number of events in a window with a limit."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from math import ceil, floor
from typing import Any, ClassVar, Literal

from marshmallow import fields, validate

from rules.conditions.base import ConditionSchema
from rules.conditions.fields import MAX_COUNT, Filters, GroupBy, StrictNumber
from rules.event import moment
from rules.scope import Scope
from rules.verdict import Selection, Verdict, format_count, format_number
from rules.windows.queries import CountWithin, NthWithin, WindowResult

#: Comparison function of each operator, and the name of the comparison in messages.
OPERATORS = {
    ">": (operator.gt, "more than"),
    ">=": (operator.ge, "at least"),
    "<": (operator.lt, "fewer than"),
    "<=": (operator.le, "at most"),
    "==": (operator.eq, "exactly"),
    "!=": (operator.ne, "other than"),
}
#: Operators whose result depends on the order in which events arrive.
ARRIVAL_DEPENDENT = ("<", "<=", "==", "!=")


@dataclass(frozen=True, slots=True)
class Threshold:
    """Condition that compares the number of events in the window of an event with the limit `value`.

    The window of an event contains the events of its group in the `window_seconds` up to its timestamp.
    With > and >=, the condition fires for the same events in any order of arrival. With the other operators, the
    condition is evaluated only when an event arrives, and counts only the events that have arrived. Therefore it can
    fire for the first events of a group, and does not fire while no event arrives.
    """

    windowed: ClassVar[Literal[True]] = True
    value_of: ClassVar[None] = None
    scope: Scope
    operator: str
    value: float
    window_seconds: int
    query: NthWithin | CountWithin
    #: Name of the counted events in messages.
    what: str = "events"

    def evaluate(self, result: WindowResult, group_suffix: str) -> Verdict:
        compare, name = OPERATORS[self.operator]
        fires = compare(result.count, self.value)
        limit = f"{name} {format_number(self.value)}"
        details: dict[str, Any] = {"window_seconds": self.window_seconds}
        if self.operator in ARRIVAL_DEPENDENT:
            reason = f"{format_count(result.count)} in {self.window_seconds} s, {'' if fires else 'not '}{limit}"
        else:
            details["limit"] = limit
            reason = f"{limit} {self.what} in {self.window_seconds} s"
        return Verdict(fires, reason + group_suffix, result.count, self.value, details)

    def selection(self, at: int, group: Mapping[str, Any]) -> Selection:
        until = moment(at)
        return Selection(self.scope.equal(group), until - timedelta(seconds=self.window_seconds), until)


def window_query(
    operator: str, value: float, window_seconds: int, allowed_lateness_seconds: int
) -> NthWithin | CountWithin:
    """Return the window query for the condition `count <operator> value`."""
    if operator == ">=":
        return NthWithin.of(max(1, ceil(value)), window_seconds, allowed_lateness_seconds)
    query = NthWithin if operator == ">" else CountWithin
    return query.of(floor(value) + 1, window_seconds, allowed_lateness_seconds)


class ThresholdSchema(ConditionSchema):
    """Fields of a `threshold` condition."""

    type = fields.String(required=True, validate=validate.Equal("threshold"))
    metric = fields.String(load_default="count", validate=validate.OneOf(["count"]))
    filters = Filters()
    group_by = GroupBy()
    operator = fields.String(required=True, validate=validate.OneOf(list(OPERATORS)))
    value = StrictNumber(required=True, validate=validate.Range(0, MAX_COUNT))

    def build(self, values: Mapping[str, Any]) -> Threshold:
        scope = Scope.of(values["filters"], values["group_by"])
        operator, value, window = values["operator"], values["value"], values["window_seconds"]
        query = window_query(operator, value, window, values["allowed_lateness_seconds"])
        return Threshold(scope, operator, value, window, query)

    def warnings(self, values: Mapping[str, Any]) -> list[str]:
        operator = values.get("operator")
        if operator not in ARRIVAL_DEPENDENT:
            return []
        return [
            f"The operator {operator} is evaluated only when an event arrives: "
            "the rule can fire for the first events of a group, and it cannot fire while no event arrives."
        ]

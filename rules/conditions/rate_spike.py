"""Condition type `rate_spike`: too many events of one source in a window."""

from collections.abc import Mapping
from typing import Any

from marshmallow import fields, validate

from rules.conditions.base import ConditionSchema
from rules.conditions.fields import MAX_COUNT, BoundedInteger, Filters
from rules.conditions.threshold import Threshold, window_query
from rules.scope import Scope


class RateSpikeSchema(ConditionSchema):
    """Fields of a `rate_spike` condition: a threshold on the number of events of each source."""

    type = fields.String(required=True, validate=validate.Equal("rate_spike"))
    filters = Filters()
    max_events = BoundedInteger(1, MAX_COUNT, required=True)

    def build(self, values: Mapping[str, Any]) -> Threshold:
        scope = Scope.of(values["filters"], ["source"])
        limit, window = values["max_events"], values["window_seconds"]
        query = window_query(">", limit, window, values["allowed_lateness_seconds"])
        return Threshold(scope, ">", limit, window, query, "events of one source")

"""Too many events of one source at once."""

from collections.abc import Mapping
from typing import Any

from marshmallow import fields, validate

from rules.conditions.base import ConditionSchema
from rules.conditions.fields import MAX_COUNT, Filters, Whole
from rules.conditions.threshold import Threshold, question
from rules.scope import Scope


class RateSpikeSchema(ConditionSchema):
    """A threshold that every source has for itself."""

    type = fields.String(required=True, validate=validate.Equal("rate_spike"))
    filters = Filters(load_default=dict)
    max_events = Whole(1, MAX_COUNT, required=True)

    def build(self, values: Mapping[str, Any]) -> Threshold:
        scope = Scope.of(values["filters"], ["source"])
        most, window = values["max_events"], values["window_seconds"]
        asked = question(">", most, window, values["allowed_lateness_seconds"])
        return Threshold(scope, ">", most, window, asked, "events of one source")

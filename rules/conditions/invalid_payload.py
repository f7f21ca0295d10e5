"""Condition type `invalid_payload`: required fields are missing from the payload of an event."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from marshmallow import fields, validate

from rules.conditions.base import ConditionSchema
from rules.conditions.fields import MAX_VALUES
from rules.event import Event
from rules.scope import Scope, get_path
from rules.verdict import Verdict


@dataclass(frozen=True, slots=True)
class InvalidPayload:
    """Condition that fires for an event of a listed type if a required path of its payload is missing or null.

    required: paths by event type; each path is a tuple of keys.
    """

    windowed: ClassVar[Literal[False]] = False
    scope: Scope
    required: Mapping[str, tuple[tuple[str, ...], ...]]

    def evaluate(self, event: Event, group_suffix: str) -> Verdict:
        required = self.required[event.event_type]
        missing = [".".join(keys) for keys in required if get_path(event.payload, keys) is None]
        reason = f"required fields missing from the payload: {', '.join(missing) or 'none'}{group_suffix}"
        return Verdict(bool(missing), reason, len(missing), 0, {"missing": missing})


class RequiredFields(fields.Dict):
    """Field for a mapping from event types to required paths. The order of the paths has no meaning."""

    def __init__(self) -> None:
        path = validate.Regexp(r"[^.]+(\.[^.]+)*\Z", error="Must be a path in the payload, such as order.id.")
        paths = fields.List(fields.String(validate=path), validate=validate.Length(1, MAX_VALUES))
        types = fields.String(validate=validate.Length(1, 255))
        super().__init__(types, paths, required=True, validate=validate.Length(1, MAX_VALUES))

    @staticmethod
    def canonical(value: dict[str, list[str]]) -> dict[str, list[str]]:
        return {event_type: sorted(set(paths)) for event_type, paths in value.items()}


class InvalidPayloadSchema(ConditionSchema):
    """Fields of an `invalid_payload` condition."""

    type = fields.String(required=True, validate=validate.Equal("invalid_payload"))
    required_fields = RequiredFields()

    def build(self, values: Mapping[str, Any]) -> InvalidPayload:
        required = values["required_fields"]
        scope = Scope.of({"event_type": list(required)}, ["event_type", "source"])
        split = {event_type: tuple(tuple(path.split(".")) for path in paths) for event_type, paths in required.items()}
        return InvalidPayload(scope, split)

"""Events of known types whose payload lacks what their type requires."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from marshmallow import fields, validate

from rules.conditions.base import ConditionSchema
from rules.event import Event
from rules.scope import Scope, reach
from rules.verdict import Verdict


@dataclass(frozen=True, slots=True)
class InvalidPayload:
    """Fires for an event of a listed type when a required path of its payload is missing or null."""

    windowed: ClassVar[Literal[False]] = False
    scope: Scope
    required: Mapping[str, tuple[tuple[str, ...], ...]]

    def judge(self, event: Event, where: str) -> Verdict:
        required = self.required[event.event_type]
        missing = [".".join(keys) for keys in required if reach(event.payload, keys) is None]
        reason = f"payload lacks {', '.join(missing) or 'nothing'}{where}"
        return Verdict(bool(missing), reason, len(missing), 0, {"missing": missing})


class InvalidPayloadSchema(ConditionSchema):
    type = fields.String(required=True, validate=validate.Equal("invalid_payload"))
    required_fields = fields.Dict(
        keys=fields.String(validate=validate.Length(1, 255)),
        values=fields.List(
            fields.String(validate=validate.Regexp(r"[^.]+(\.[^.]+)*\Z", error="Must be a path into the payload.")),
            validate=validate.Length(min=1),
        ),
        required=True,
        validate=validate.Length(min=1),
    )

    def build(self, values: Mapping[str, Any]) -> InvalidPayload:
        required = values["required_fields"]
        scope = Scope.of({"event_type": list(required)}, ["event_type", "source"])
        split = {kind: tuple(tuple(path.split(".")) for path in paths) for kind, paths in required.items()}
        return InvalidPayload(scope, split)

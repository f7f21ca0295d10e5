"""A rule, read from its row: checked, and ready to be applied."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from rules.conditions.base import Condition, ConditionSchema
from rules.conditions.fields import Flag, Whole
from rules.conditions.invalid_payload import InvalidPayloadSchema
from rules.conditions.rate_spike import RateSpikeSchema
from rules.conditions.threshold import ThresholdSchema
from rules.conditions.timestamp_drift import TimestampDriftSchema
from rules.conditions.zscore import ZScoreSchema
from rules.event import SECOND
from rules.scope import canonical
from rules.windows.queries import CLOCK_SKEW_SECONDS, CooldownClaim

#: Every kind of condition, by the `type` it is written with.
CONDITIONS: dict[str, type[ConditionSchema]] = {
    "threshold": ThresholdSchema,
    "rate_spike": RateSpikeSchema,
    "invalid_payload": InvalidPayloadSchema,
    "timestamp_drift": TimestampDriftSchema,
    "zscore": ZScoreSchema,
}
SEVERITIES = ("critical", "warning", "info")
MAX_WINDOW_SECONDS = 86_400
MAX_COOLDOWN_SECONDS = 7 * 86_400
MAX_LATENESS_SECONDS = 7 * 86_400
CLAIMS = 1_024  # of one cooldown, that are remembered


class InvalidRule(Exception):
    """A rule cannot be understood; `errors` says which fields, by path, and why."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{error['field']}: {error['message']}" for error in errors))


class ConditionField(fields.Field[dict[str, Any]]):
    """An object whose `type` says which of the CONDITIONS reads it."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[str, Any]:
        value = super()._deserialize(value, attr, data, **kwargs)
        if not isinstance(value, dict):
            raise ValidationError("Must be an object.")
        schema = CONDITIONS.get(str(value.get("type")))
        if schema is None:
            raise ValidationError({"type": [f"Must be one of: {', '.join(CONDITIONS)}."]})
        loaded: dict[str, Any] = schema().load(value)
        return loaded


class RuleSchema(Schema):
    """What admins write of a rule."""

    name = fields.String(required=True, validate=validate.Length(1, 255))
    enabled = Flag(load_default=True)
    severity = fields.String(required=True, validate=validate.OneOf(SEVERITIES))
    window_seconds = Whole(1, MAX_WINDOW_SECONDS, required=True)
    cooldown_seconds = Whole(0, MAX_COOLDOWN_SECONDS, load_default=300)
    allowed_lateness_seconds = Whole(0, MAX_LATENESS_SECONDS, load_default=3_600)
    condition = ConditionField(required=True)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Its windows belong to the condition and its span: a rule that is changed in these starts afresh."""

    rule_id: str
    name: str
    severity: str
    version: int
    window_seconds: int
    cooldown_seconds: int
    allowed_lateness_seconds: int
    condition: Condition
    digest: str = ""
    window_key: str = field(init=False, repr=False)
    cooldown_key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "window_key", f"eventpulse:window:{self.rule_id}:{self.digest}:")
        object.__setattr__(self, "cooldown_key", f"eventpulse:cooldown:{self.rule_id}:{self.digest}:")

    def timely(self, age: int) -> bool:
        """Whether an event that arrived so many microseconds after its own time may enter a window."""
        return -CLOCK_SKEW_SECONDS * SECOND <= age <= self.allowed_lateness_seconds * SECOND

    def claim(self, group_digest: str, members: list[tuple[int, str]]) -> CooldownClaim:
        """The wish of these events, in order of (time, id), to be announced, and no other of their group near them."""
        past_seconds = self.cooldown_seconds + self.allowed_lateness_seconds + CLOCK_SKEW_SECONDS
        return CooldownClaim(
            self.cooldown_key + group_digest,
            self.cooldown_seconds * SECOND,
            past_seconds * SECOND,
            CLAIMS,
            members,
        )


def parse_rule(row: Mapping[str, Any]) -> Rule:
    """The rule of a row. Raises `InvalidRule` with every error of it."""
    schema = RuleSchema()
    try:
        values = schema.load({name: row[name] for name in schema.fields if name in row})
    except ValidationError as error:
        raise InvalidRule(list(problems(error.messages))) from error
    written, window = values["condition"], values["window_seconds"]
    return Rule(
        rule_id=str(row["rule_id"]),
        name=values["name"],
        severity=values["severity"],
        version=row["version"],
        window_seconds=window,
        cooldown_seconds=values["cooldown_seconds"],
        allowed_lateness_seconds=values["allowed_lateness_seconds"],
        condition=CONDITIONS[written["type"]]().build(values | written),
        digest=digest(canonical([written, window])),
    )


def digest(text: str) -> str:
    """A short stand-in for a long text in a key."""
    return blake2b(text.encode(), digest_size=12).hexdigest()


def problems(messages: Any, path: str = "") -> Iterator[dict[str, str]]:
    """marshmallow's nested messages as a flat list: {"field": "condition.operator", "message": "…"}."""
    if isinstance(messages, dict):
        for name, nested in messages.items():
            yield from problems(nested, f"{path}.{name}" if path else str(name))
    else:
        for message in messages:
            yield {"field": path, "message": message}

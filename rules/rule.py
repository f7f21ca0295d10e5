"""Validation of rules, and rules in the form in which they are evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from marshmallow import Schema, ValidationError, fields, validate

from eventpulse.redis_keys import KEY_PREFIX
from eventpulse.severity import SEVERITIES
from rules.conditions import CONDITIONS
from rules.conditions.base import Condition
from rules.conditions.fields import BoundedInteger, StrictBoolean
from rules.event import SECOND
from rules.scope import canonical_json
from rules.validation import flatten
from rules.windows.queries import CLOCK_SKEW_SECONDS, BucketBaseline, CooldownClaim

MAX_WINDOW_SECONDS = 86_400
MAX_COOLDOWN_SECONDS = 7 * 86_400
MAX_LATENESS_SECONDS = 7 * 86_400
#: Maximum number of starts of cooldowns that are stored for each rule and group.
MAX_COOLDOWN_STARTS = 1_024
MAX_LABELS = 32


class InvalidRule(Exception):
    """Raised when a rule is invalid; `errors` has the path of a field and a message for each error."""

    def __init__(self, errors: list[dict[str, str]]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{error['field']}: {error['message']}" for error in errors))


class ConditionField(fields.Field[dict[str, Any]]):
    """Field for a condition: an object that is loaded by the schema of its `type`."""

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


KEY = validate.Regexp(
    r"[a-z0-9][a-z0-9._-]{0,63}\Z",
    error="Must be 1 to 64 lowercase letters, digits, dots, underscores or hyphens; must start with a letter or digit.",
)
LABEL_NAME = validate.Regexp(
    r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z",
    error="Must be 1 to 64 letters, digits or underscores; must not start with a digit.",
)
URL = validate.Regexp(
    r"https?://[!-.0-~][!-~]{0,1990}\Z",
    error="Must be an http:// or https:// URL of fewer than 2,000 ASCII characters.",
)


class RuleSchema(Schema):
    """The fields of a rule that an administrator writes."""

    key = fields.String(load_default=None, validate=KEY)
    name = fields.String(required=True, validate=validate.Length(1, 255))
    enabled = StrictBoolean(load_default=True)
    severity = fields.String(required=True, validate=validate.OneOf(SEVERITIES))
    window_seconds = BoundedInteger(1, MAX_WINDOW_SECONDS, required=True)
    cooldown_seconds = BoundedInteger(0, MAX_COOLDOWN_SECONDS, load_default=300)
    allowed_lateness_seconds = BoundedInteger(0, MAX_LATENESS_SECONDS, load_default=3_600)
    condition = ConditionField(required=True)
    labels = fields.Dict(
        fields.String(validate=LABEL_NAME),
        fields.String(validate=validate.Length(1, 255)),
        load_default=dict,
        validate=validate.Length(max=MAX_LABELS),
    )
    description = fields.String(load_default=None, validate=validate.Length(max=2_000))
    runbook_url = fields.String(load_default=None, validate=URL)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that can be evaluated.

    Rules with the same scope and the same allowed lateness share windows (see `rules.windows.queries`). After a change
    of the limit or of `window_seconds`, such a rule counts the events that its windows contain already.

    The keys of other windows and of cooldowns depend on the id of the rule, its condition and `window_seconds`: after a
    change of the condition or of `window_seconds`, the windows are empty. `tests/pure/test_rules_keys.py` checks that
    the keys do not change between versions of EventPulse.
    """

    rule_id: str
    name: str
    severity: str
    version: int
    window_seconds: int
    cooldown_seconds: int
    allowed_lateness_seconds: int
    condition: Condition
    runbook_url: str | None = None
    digest: str = ""
    window_key: str = field(init=False, repr=False)
    cooldown_key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        window = self._shared_window() or f"{self.rule_id}:{self.digest}"
        object.__setattr__(self, "window_key", f"{KEY_PREFIX}:window:{window}:")
        object.__setattr__(self, "cooldown_key", f"{KEY_PREFIX}:cooldown:{self.rule_id}:{self.digest}:")

    def _shared_window(self) -> str | None:
        """Return the part of the window key that is equal for all rules that share a window; None without sharing."""
        condition = self.condition
        if not condition.windowed or condition.value_of or not condition.query.shared_as:
            return None
        parts = [condition.query.shared_as, condition.scope.key, self.allowed_lateness_seconds]
        return digest(canonical_json(parts))

    def is_within_lateness(self, age: int) -> bool:
        """Return whether a window accepts an event that arrived `age` microseconds after its timestamp."""
        return -CLOCK_SKEW_SECONDS * SECOND <= age <= self.allowed_lateness_seconds * SECOND

    @property
    def least_retention(self) -> int:
        """Return the shortest time for which the windows and the cooldowns of this rule must be kept."""
        query = self.condition.query if self.condition.windowed else None
        window = query.span if isinstance(query, BucketBaseline) else self.window_seconds * SECOND
        return max(window, self._cooldown_past)

    @property
    def _cooldown_past(self) -> int:
        return (self.cooldown_seconds + self.allowed_lateness_seconds + CLOCK_SKEW_SECONDS) * SECOND

    def cooldown_claim(self, group_digest: str, members: list[tuple[int, str]]) -> CooldownClaim:
        """Return the cooldown claim for the events of one group: `members` are their (time, id), sorted."""
        return CooldownClaim(
            self.cooldown_key + group_digest,
            self.cooldown_seconds * SECOND,
            self._cooldown_past,
            MAX_COOLDOWN_STARTS,
            members,
        )


def parse_rule(row: Mapping[str, Any]) -> Rule:
    """Return the rule of a row of the table `rules`. Raises `InvalidRule` with all errors of the row."""
    schema = RuleSchema()
    try:
        values = schema.load({name: row[name] for name in schema.fields if name in row})
    except ValidationError as error:
        errors = [{"field": path, "message": message} for path, message in flatten(error.messages)]
        raise InvalidRule(errors) from error
    condition, window = values["condition"], values["window_seconds"]
    condition_schema = CONDITIONS[condition["type"]]()
    return Rule(
        rule_id=str(row["rule_id"]),
        name=values["name"],
        severity=values["severity"],
        version=row["version"],
        window_seconds=window,
        cooldown_seconds=values["cooldown_seconds"],
        allowed_lateness_seconds=values["allowed_lateness_seconds"],
        condition=condition_schema.build(values | condition),
        runbook_url=values["runbook_url"],
        digest=digest(canonical_json([condition_schema.canonical(condition), window])),
    )


def digest(text: str) -> str:
    """Return a digest of a text for use in a key: 24 hexadecimal digits."""
    return blake2b(text.encode(), digest_size=12).hexdigest()

"""Rules as written by administrators, the history of their versions, and the revision of the rule set."""

from typing import Any, NamedTuple, Self
from uuid import UUID

import peewee
from uuid_utils.compat import uuid7

from models.base import Row, jsonb, now, time
from models.database import database

#: Columns that an administrator writes. They are the content of a version.
WRITTEN = (
    "key",
    "name",
    "enabled",
    "severity",
    "window_seconds",
    "cooldown_seconds",
    "allowed_lateness_seconds",
    "condition",
    "labels",
    "description",
    "runbook_url",
)


class Revision(NamedTuple):
    """Identity of a state of the rule set: `number` grows with each change, `epoch` changes after a restore."""

    epoch: str
    number: int


class TooManyActiveRules(Exception):
    """Raised when a change would make a rule active while the maximum number of rules is active."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"At most {limit} rules can be active; disable or delete another rule first")


class Rule(Row):
    """One rule.

    key: identifier of the rule in rule files, or null.
    error: reason of a suspension, or null. The next change of the rule ends the suspension.
    """

    rule_id = peewee.UUIDField(primary_key=True, default=uuid7)
    key = peewee.TextField(null=True, unique=True)
    name = peewee.TextField()
    enabled = peewee.BooleanField(default=True)
    severity = peewee.TextField()
    window_seconds = peewee.IntegerField()
    cooldown_seconds = peewee.IntegerField()
    allowed_lateness_seconds = peewee.IntegerField()
    condition = jsonb()
    labels = jsonb(default=dict)
    description = peewee.TextField(null=True)
    runbook_url = peewee.TextField(null=True)
    version = peewee.IntegerField(default=1)
    error = peewee.TextField(null=True)
    created_at = time(default=now)
    updated_at = time(default=now)

    class Meta:
        table_name = "rules"

    @property
    def status(self) -> str:
        """Return `error` if a worker suspended the rule, `disabled` if an administrator disabled it, else `active`."""
        if self.error is not None:
            return "error"
        return "active" if self.enabled else "disabled"

    @classmethod
    def add(cls, max_active: int | None = None, /, **fields: Any) -> Self:
        """Store a new rule. Raises `peewee.IntegrityError` if another rule has the same key.

        Raises `TooManyActiveRules` if the rule is enabled and `max_active` rules are active.
        """
        with database.atomic():
            _lock_rulebook()
            rule = cls.create(**fields)
            RuleVersion.record(rule, "created")
            if rule.enabled:
                cls._check_active(max_active)
        return rule

    def change(self, max_active: int | None = None, /, **fields: Any) -> bool:
        """Store new values as the next version; return False if another change or a deletion was stored first.

        Raises `peewee.IntegrityError` if another rule has the new key, and `TooManyActiveRules` if the change makes the
        rule active while `max_active` rules are active. An active rule can be changed in any case.
        """
        update = Rule.update(**fields, error=None, version=self.version + 1, updated_at=now())
        with database.atomic():
            _lock_rulebook()
            was_active = Rule.select().where(Rule.rule_id == self.rule_id, *self._active()).exists()
            changed = self._apply(update, "changed")
            if changed and not was_active and fields.get("enabled", self.enabled):
                self._check_active(max_active)
        return changed

    @classmethod
    def _check_active(cls, max_active: int | None) -> None:
        """Raise `TooManyActiveRules` if more than `max_active` rules are active, including the stored change."""
        if max_active is not None and cls.select().where(*cls._active()).count() > max_active:
            raise TooManyActiveRules(max_active)

    @classmethod
    def _active(cls) -> tuple[Any, Any]:
        return cls.enabled, cls.error.is_null()

    def remove(self) -> bool:
        """Delete the rule; return False if a change or another deletion was stored first."""
        return self._apply(Rule.delete(), "deleted")

    @classmethod
    def suspend(cls, rule_id: UUID, version: int, reason: str) -> bool:
        """Suspend a version of a rule that raised an exception.

        Return False if the rule was changed, deleted or suspended first.
        """
        update = cls.update(error=reason, updated_at=now()).where(cls.error.is_null())
        return cls(rule_id=rule_id, version=version)._apply(update, "suspended", reason)

    def _apply(self, statement: Any, change: str, reason: str | None = None) -> bool:
        """Run an UPDATE or DELETE on this version of the rule; return whether this version was still stored."""
        with database.atomic():
            _lock_rulebook()
            same = (Rule.rule_id == self.rule_id, Rule.version == self.version)
            rules = list(statement.where(*same).returning(Rule).execute())
            for rule in rules:
                RuleVersion.record(rule, change, reason)
        return bool(rules)

    @classmethod
    def in_force(cls) -> tuple[Revision, list[Self]]:
        """Return the revision of the rule set and the active rules, read from one snapshot."""
        with database.atomic(isolation_level="REPEATABLE READ"):
            revision = Revision(*database.execute_sql("SELECT epoch::text, revision FROM rulebook").fetchone())
            return revision, list(cls.select().where(*cls._active()).order_by(cls.rule_id))


class RuleVersion(Row):
    """One change of a rule.

    rule: the `WRITTEN` columns after the change; for a deletion, the columns of the deleted version.
    change: "created", "changed", "deleted" or "suspended".
    reason: reason of a suspension, or null.
    """

    rule_version_id = peewee.UUIDField(primary_key=True, default=uuid7)
    rule_id = peewee.UUIDField()
    version = peewee.IntegerField()
    rule = jsonb()
    change = peewee.TextField()
    reason = peewee.TextField(null=True)
    changed_at = time(default=now)

    class Meta:
        table_name = "rule_versions"

    @classmethod
    def record(cls, rule: Rule, change: str, reason: str | None = None) -> None:
        """Store a change and increment the revision of the rule set, in the transaction of the caller."""
        content = {name: getattr(rule, name) for name in WRITTEN}
        cls.create(rule_id=rule.rule_id, version=rule.version, rule=content, change=change, reason=reason)
        database.execute_sql("UPDATE rulebook SET revision = revision + 1")


def start_epoch(stale: str) -> None:
    """Replace the epoch `stale` of the rule set with a new one; no effect if `stale` was already replaced."""
    database.execute_sql("UPDATE rulebook SET epoch = gen_random_uuid() WHERE epoch = %s", (stale,))


def _lock_rulebook() -> None:
    """Lock the rule set until the transaction ends, so that concurrent changes wait for each other.

    Must be called before a rule is locked: otherwise two transactions that change the same rules could deadlock.
    """
    database.execute_sql("SELECT FROM rulebook FOR UPDATE")

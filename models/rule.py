"""A rule as its admins wrote it, versioned; and the revision of them all together."""

from typing import Any, Self
from uuid import UUID

import peewee
from uuid_utils.compat import uuid7

from models.base import Row, jsonb, now, time
from models.database import database

BUMP = "UPDATE rulebook SET revision = revision + 1 RETURNING revision"


class Rule(Row):
    """One rule. `error` says why it was suspended; a change of the rule clears it."""

    rule_id = peewee.UUIDField(primary_key=True, default=uuid7)
    name = peewee.TextField()
    enabled = peewee.BooleanField(default=True)
    severity = peewee.TextField()
    window_seconds = peewee.IntegerField()
    cooldown_seconds = peewee.IntegerField()
    allowed_lateness_seconds = peewee.IntegerField()
    condition = jsonb()
    version = peewee.IntegerField(default=1)
    error = peewee.TextField(null=True)
    created_at = time(default=now)
    updated_at = time(default=now)

    class Meta:
        table_name = "rules"

    @property
    def status(self) -> str:
        """`error`: suspended by a worker, until it is changed; `disabled`: by an admin; else `active`."""
        if self.error is not None:
            return "error"
        return "active" if self.enabled else "disabled"

    @classmethod
    def add(cls, **fields: Any) -> Self:
        with database.atomic():
            _bump()
            return cls.create(**fields)

    def change(self, **fields: Any) -> bool:
        """Store new values as the next version; False when another change came first."""
        with database.atomic():
            _bump()
            changed = (
                Rule.update(**fields, error=None, version=self.version + 1, updated_at=now())
                .where(Rule.rule_id == self.rule_id, Rule.version == self.version)
                .execute()
            )
        return bool(changed)

    def remove(self) -> bool:
        """Delete the rule; False when a change or another removal came first."""
        with database.atomic():
            _bump()
            same = (Rule.rule_id == self.rule_id, Rule.version == self.version)
            return bool(Rule.delete().where(*same).execute())

    @classmethod
    def suspend(cls, rule_id: UUID, version: int, reason: str) -> bool:
        """Take a broken rule out of force; False when it has been changed or suspended meanwhile."""
        with database.atomic():
            suspended = (
                cls.update(error=reason, updated_at=now())
                .where(cls.rule_id == rule_id, cls.version == version, cls.error.is_null())
                .execute()
            )
            if suspended:
                _bump()
        return bool(suspended)

    @classmethod
    def in_force(cls) -> tuple[int, list[Self]]:
        """The revision of the rulebook and its active rules, both of the same instant."""
        with database.atomic(isolation_level="REPEATABLE READ"):
            (revision,) = database.execute_sql("SELECT revision FROM rulebook").fetchone()
            return revision, list(cls.select().where(cls.enabled, cls.error.is_null()).order_by(cls.rule_id))


def _bump() -> int:
    """Count one more change of the rules. Its row lock makes changes wait for each other."""
    return int(database.execute_sql(BUMP).fetchone()[0])

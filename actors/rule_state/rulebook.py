"""The rules in force: PostgreSQL has them, Redis carries a snapshot of them, every worker keeps it compiled."""

from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import structlog

from actors.broker import broker
from actors.transport.scripts import LuaScript
from models.database import connection
from models.rule import Rule as RuleRow
from rules.engine.index import RuleSet
from rules.rule import InvalidRule, Rule, parse_rule

log = structlog.get_logger()

PUBLISH_RULES = LuaScript(Path(__file__).parent / "publish_rules.lua")
SNAPSHOT = f"{broker.namespace}:rules"
REVISION = f"{broker.namespace}:rules.revision"
FIELDS = (
    "name",
    "severity",
    "version",
    "window_seconds",
    "cooldown_seconds",
    "allowed_lateness_seconds",
    "condition",
)


def publish() -> int:
    """Put the active rules of PostgreSQL into Redis, unless newer ones are there; returns the revision in force.

    Raises `redis.RedisError` or `peewee.PeeweeException` when a server is away.
    """
    with connection():
        revision, rows = RuleRow.in_force()
    rules = [{"rule_id": str(row.rule_id), **{field: getattr(row, field) for field in FIELDS}} for row in rows]
    snapshot = msgspec.json.encode({"revision": revision, "rules": rules})
    return int(PUBLISH_RULES(broker.client, [SNAPSHOT, REVISION], [snapshot, revision]))


def suspend(rule_id: str, version: int, reason: str) -> None:
    """Take a broken rule out of force everywhere, visibly, until somebody changes it."""
    with connection():
        suspended = RuleRow.suspend(UUID(rule_id), version, reason)
    if suspended:
        log.error("rule_suspended", rule_id=rule_id, reason=reason)
    publish()


class Rulebook:
    """The compiled rules of this process, swapped as a whole when the revision in Redis moves on."""

    def __init__(self) -> None:
        self._loaded = (-1, RuleSet([]))  # one attribute, swapped as a whole: several threads read it

    def current(self) -> RuleSet:
        """The rules in force now: one small read when nothing has changed."""
        revision: Any = broker.client.get(REVISION)
        if revision is None:
            publish()
        if revision is None or int(revision) != self._loaded[0]:
            self._load()
        return self._loaded[1]

    def _load(self) -> None:
        snapshot: dict[str, Any] = msgspec.json.decode(broker.client.get(SNAPSHOT))  # type: ignore[arg-type]
        compiled: list[Rule] = []
        for row in snapshot["rules"]:
            try:
                compiled.append(parse_rule(row))
            except InvalidRule as error:
                reasons = "; ".join(f"{problem['field']}: {problem['message']}" for problem in error.errors)
                suspend(row["rule_id"], row["version"], reasons)
        self._loaded = (snapshot["revision"], RuleSet(compiled))
        log.info("rules_loaded", revision=snapshot["revision"], rules=len(compiled))

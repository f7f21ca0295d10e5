"""Rules in force: stored in PostgreSQL, published to Redis as one snapshot, and compiled by every worker."""

import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import structlog

from actors.broker import broker
from actors.rule_state import unsupported
from actors.transport.redis_broker import RedisBroker
from actors.transport.scripts import LuaScript
from eventpulse.redis_keys import KEY_PREFIX
from models.database import connection
from models.rule import Revision, start_epoch
from models.rule import Rule as RuleRow
from rules.engine.evaluate import MAX_REASON_CHARACTERS, fault_reason
from rules.engine.index import RuleSet
from rules.rule import InvalidRule, Rule, parse_rule

log = structlog.get_logger()

FOLDER = Path(__file__).parent
PUBLISH_RULES = LuaScript(FOLDER / "windows" / "prelude.lua", FOLDER / "publish_rules.lua")
SNAPSHOT = f"{KEY_PREFIX}:rules"
REVISION = f"{KEY_PREFIX}:rules.revision"
#: Columns of a rule that a worker needs, in addition to `rule_id`.
FIELDS = (
    "name",
    "severity",
    "version",
    "window_seconds",
    "cooldown_seconds",
    "allowed_lateness_seconds",
    "condition",
    "runbook_url",
)


def publish() -> str:
    """Publish the rules in force, unless newer rules are already published; return the published revision as text.

    If PostgreSQL was restored from a backup, start a new epoch, so that the restored rules count as newer. Raises
    `redis.RedisError` or `peewee.PeeweeException` if a server is unavailable.
    """
    published: Any = broker.client.get(REVISION)  # must be read before PostgreSQL, see _is_ahead
    with connection():
        revision, rows = RuleRow.in_force()
        if published is not None and _is_ahead(published.decode(), revision):
            start_epoch(revision.epoch)
            revision, rows = RuleRow.in_force()
            log.warning("rules_restored", published=published.decode(), restored=_text(revision))
    rules = [{"rule_id": str(row.rule_id), **{field: getattr(row, field) for field in FIELDS}} for row in rows]
    snapshot = msgspec.json.encode({"revision": _text(revision), "rules": rules})
    reply: bytes = PUBLISH_RULES(broker.client, [SNAPSHOT, REVISION], [snapshot, revision.epoch, revision.number])
    return reply.decode()


def _is_ahead(published: str, stored: Revision) -> bool:
    """Return whether the published revision is later than the stored revision of the same epoch.

    The only possible cause is that PostgreSQL was restored from a backup: a revision is published after its commit, and
    Redis is read before PostgreSQL.
    """
    epoch, _, number = published.rpartition(":")
    return epoch == stored.epoch and int(number) > stored.number


def _text(revision: Revision) -> str:
    return f"{revision.epoch}:{revision.number}"


def suspend(rule_id: str, version: int, reason: str) -> None:
    """Suspend a version of a rule that raised an exception, and publish the remaining rules.

    `reason` is stored with the rule. The next change of the rule ends the suspension. Raises
    `redis.RedisError` or `peewee.PeeweeException` if a server is unavailable.
    """
    with connection():
        suspended = RuleRow.suspend(UUID(rule_id), version, reason)
    if suspended:
        log.error("rule_suspended", rule_id=rule_id, reason=reason)
    publish()


def unsupported_rules(broker: RedisBroker) -> dict[str, str]:
    """Return the reasons why running workers skip rules, by rule id. Raises `redis.RedisError`.

    Workers that support such a rule evaluate it; the other workers usually run an older version.
    """
    return unsupported.read(broker)


class Rulebook:
    """Compiled rules of this process, replaced as a whole when another revision is published."""

    def __init__(self) -> None:
        self._compiled = ("", RuleSet([]))  # one attribute, so that no thread reads parts of two revisions
        self._lock = threading.Lock()

    def current(self) -> RuleSet:
        """Return the rules in force. If the rules have not changed, the call costs one small read from Redis.

        Raises `redis.RedisError` or `peewee.PeeweeException` if a server is unavailable.
        """
        revision: Any = broker.client.get(REVISION)
        if revision is None:
            publish()
        if revision is None or revision.decode() != self._compiled[0]:
            self._load()
        return self._compiled[1]

    def _load(self) -> None:
        """Compile the published rules. A rule that cannot be compiled does not affect other rules."""
        with self._lock:
            snapshot: dict[str, Any] = msgspec.json.decode(broker.client.get(SNAPSHOT))  # type: ignore[arg-type]
            revision = snapshot["revision"]
            if revision == self._compiled[0]:  # another thread has compiled this revision
                return
            rules, skipped = _compile(snapshot["rules"])
            for rule_id, reason in skipped.items():
                log.error("rule_unsupported", rule_id=rule_id, reason=reason, revision=revision)
            unsupported.report(broker, skipped)
            self._compiled = (revision, RuleSet(rules))
            log.info("rules_loaded", revision=revision, rules=len(rules), index_entries=self._compiled[1].size)


def _compile(rows: list[dict[str, Any]]) -> tuple[list[Rule], dict[str, str]]:
    """Return the compiled rules, and the reason for each rule that this version does not support, by rule id.

    Suspend a rule that raises an unexpected exception.
    """
    rules: list[Rule] = []
    skipped: dict[str, str] = {}
    for row in rows:
        try:
            rules.append(parse_rule(row))
        except InvalidRule as error:  # not suspended: workers of a newer version may support the rule
            skipped[row["rule_id"]] = str(error)[:MAX_REASON_CHARACTERS]
        except Exception as error:
            suspend(row["rule_id"], row["version"], fault_reason(error))
    return rules, skipped

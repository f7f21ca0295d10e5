"""Tests of the publication of rules: revisions, restores of PostgreSQL, and unsupported rules."""

from collections.abc import Callable
from typing import Any

import dramatiq
import msgspec
import pytest
import redis
from marshmallow import fields
from structlog.testing import capture_logs
from support.pipeline_factory import accept, anomalies, event, idle, rule
from support.redis_config import configured
from support.waiting import until

from actors.broker import broker
from actors.rule_state import rulebook
from models.database import connection, database
from models.rule import Rule, start_epoch
from rules.conditions import CONDITIONS
from rules.conditions.base import ConditionSchema

StartWorker = Callable[[], dramatiq.Worker]
UNKNOWN = {"type": "absence", "after_seconds": 60}


def published(client: redis.Redis) -> str:
    revision: Any = client.get(rulebook.REVISION)
    return str(revision.decode())


def published_names(client: redis.Redis) -> list[str]:
    snapshot: Any = client.get(rulebook.SNAPSHOT)
    return [row["name"] for row in msgspec.json.decode(snapshot)["rules"]]


def number(revision: str) -> int:
    return int(revision.rpartition(":")[2])


def restore(changes: int) -> None:
    """Decrease the revision of the rules in PostgreSQL by `changes`, as a restore from a backup does."""
    with connection():
        database.execute_sql("UPDATE rulebook SET revision = revision - %s", (changes,))


def in_force(row: Rule) -> Rule:
    with connection():
        stored: Rule = Rule.get_by_id(row.rule_id)
    return stored


def test_rules_are_published_again_after_redis_was_emptied(pipeline: redis.Redis) -> None:
    rule()
    pipeline.flushdb()
    assert rulebook.publish() == published(pipeline)
    assert published_names(pipeline) == ["Many orders"]


def test_an_older_snapshot_does_not_replace_a_newer_one_of_the_same_epoch(pipeline: redis.Redis) -> None:
    rule()
    newer = published(pipeline)
    epoch = newer.rpartition(":")[0]
    for older in (number(newer) - 1, number(newer)):
        arguments = ["an older snapshot", epoch, older]
        reply = rulebook.PUBLISH_RULES(broker.client, [rulebook.SNAPSHOT, rulebook.REVISION], arguments)
        assert reply.decode() == newer
    assert published_names(pipeline) == ["Many orders"]


def test_after_a_restore_of_postgresql_one_publish_puts_a_changed_rule_in_force(pipeline: redis.Redis) -> None:
    row = rule()
    before = published(pipeline)
    restore(changes=5)
    with connection():
        assert row.change(name="Changed after the restore")
    after = rulebook.publish()
    assert published_names(pipeline) == ["Changed after the restore"]
    assert number(after) < number(before)
    assert rulebook.publish() == after


def test_workers_load_the_rules_of_a_restored_postgresql(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    row = rule()
    start_worker()
    accept(event())
    until(lambda: idle(pipeline))
    restore(changes=3)
    with connection():
        assert row.change(condition={"type": "threshold", "operator": ">=", "value": 1})
    rulebook.publish()
    accept(event())
    until(lambda: idle(pipeline))
    assert [anomaly.rule_version for anomaly in anomalies()] == [2]


def test_two_publishers_that_detect_a_restore_agree_on_its_epoch(pipeline: redis.Redis) -> None:
    rule()
    restore(changes=1)
    with connection():
        stale, _ = Rule.in_force()
        start_epoch(stale.epoch)
        first, _ = Rule.in_force()
        start_epoch(stale.epoch)
        assert Rule.in_force()[0] == first
    assert rulebook.publish() == f"{first.epoch}:{first.number}"


def test_a_rule_of_an_unknown_type_is_skipped_and_stays_in_force_for_other_workers(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    unknown = rule(name="Of a newer version", condition=UNKNOWN)
    rule()
    start_worker()
    accept(*[event() for _ in range(3)])
    until(lambda: idle(pipeline) and anomalies())
    assert (in_force(unknown).status, in_force(unknown).error) == ("active", None)
    assert [found.rule_name for found in anomalies()] == ["Many orders"]
    (reason,) = rulebook.unsupported_rules(broker).values()
    assert reason.startswith("condition.type: Must be one of: threshold,")
    assert broker.worker_id in reason


def test_a_report_of_an_unsupported_rule_ends_with_the_rule(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    unknown = rule(condition=UNKNOWN)
    start_worker()
    accept(event())
    until(lambda: idle(pipeline))
    assert rulebook.unsupported_rules(broker).keys() == {str(unknown.rule_id)}
    with connection():
        unknown.remove()
    rulebook.publish()
    accept(event())
    until(lambda: idle(pipeline))
    assert rulebook.unsupported_rules(broker) == {}


def test_reports_of_lost_workers_are_ignored_and_deleted(pipeline: redis.Redis) -> None:
    row = rule()
    pipeline.hset("eventpulse:rules.unsupported", "lost-worker", msgspec.json.encode(["0.0.1", {"a rule": "no"}]))
    assert rulebook.unsupported_rules(broker) == {}
    rulebook.Rulebook().current()
    assert pipeline.hkeys("eventpulse:rules.unsupported") == []
    assert in_force(row).status == "active"


def test_an_unsupported_rule_is_logged_once_for_each_revision(pipeline: redis.Redis) -> None:
    rule(condition=UNKNOWN)
    compiled = rulebook.Rulebook()
    with capture_logs() as logs:
        compiled.current()
        compiled.current()
    assert [line["event"] for line in logs].count("rule_unsupported") == 1


class ExhaustingSchema(ConditionSchema):
    """Schema of a condition type whose compilation raises an exception."""

    type = fields.String()

    def build(self, values: object) -> Any:
        raise MemoryError("too large")


def test_a_rule_whose_compilation_raises_is_suspended_and_the_others_are_in_force(
    pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONDITIONS, "exhausting", ExhaustingSchema)
    bad, good = rule(name="Bad", condition={"type": "exhausting"}), rule()
    compiled = rulebook.Rulebook().current()
    assert (in_force(bad).status, in_force(bad).error) == ("error", "MemoryError: too large")
    assert compiled.size == 1
    assert in_force(good).status == "active"


def test_a_suspension_is_published_to_a_full_redis(pipeline: redis.Redis) -> None:
    """If the suspension failed, the worker could not continue the evaluation, and would free no memory of Redis."""
    row = rule()
    with configured(pipeline, maxmemory=1):
        rulebook.suspend(str(row.rule_id), row.version, "division by zero")
        assert published_names(pipeline) == []

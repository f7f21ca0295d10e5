"""Tests of rules in PostgreSQL: versions, suspension, history, and the revision of the rule set."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import peewee
import pytest
from support.waiting import until

from models.database import connection, database
from models.rule import WRITTEN, Revision, Rule, RuleVersion
from rules.rule import RuleSchema

FIELDS: dict[str, Any] = {
    "name": "High error rate",
    "severity": "critical",
    "window_seconds": 60,
    "cooldown_seconds": 300,
    "allowed_lateness_seconds": 60,
    "condition": {"type": "threshold", "operator": ">", "value": 5},
}


def revision() -> Revision:
    return Rule.in_force()[0]


def later(before: Revision, changes: int) -> Revision:
    return Revision(before.epoch, before.number + changes)


def history(rule: Rule) -> list[tuple[str, int, str | None]]:
    rows = RuleVersion.select().where(RuleVersion.rule_id == rule.rule_id).order_by(RuleVersion.changed_at)
    return [(row.change, row.version, row.reason) for row in rows]


def test_a_change_is_the_next_version_and_a_new_revision(db: None) -> None:
    before = revision()
    rule = Rule.add(**FIELDS)
    assert (rule.version, rule.status, revision()) == (1, "active", later(before, 1))
    assert rule.change(name="Renamed")
    stored = Rule.get_by_id(rule.rule_id)
    assert (stored.name, stored.version, revision()) == ("Renamed", 2, later(before, 2))
    assert stored.updated_at > stored.created_at


def test_the_second_of_two_changes_of_one_version_is_not_stored(db: None) -> None:
    rule = Rule.add(**FIELDS)
    stale = Rule.get_by_id(rule.rule_id)
    assert rule.change(name="first")
    before = revision()
    assert not stale.change(name="second")
    assert not stale.remove()
    assert Rule.get_by_id(rule.rule_id).name == "first"
    assert revision() == before


def test_a_suspended_rule_has_a_reason_and_is_not_in_force(db: None) -> None:
    active, broken = Rule.add(**FIELDS), Rule.add(**FIELDS)
    assert Rule.suspend(broken.rule_id, broken.version, "division by zero")
    stored = Rule.get_by_id(broken.rule_id)
    assert (stored.status, stored.error) == ("error", "division by zero")
    assert Rule.in_force() == (revision(), [active])


def test_a_rule_is_suspended_once_and_only_in_the_version_that_raised(db: None) -> None:
    rule = Rule.add(**FIELDS)
    assert not Rule.suspend(rule.rule_id, rule.version + 1, "of another version")
    assert Rule.suspend(rule.rule_id, rule.version, "the first reason")
    before = revision()
    assert not Rule.suspend(rule.rule_id, rule.version, "the second reason")
    assert revision() == before
    assert Rule.get_by_id(rule.rule_id).error == "the first reason"


def test_a_change_puts_a_suspended_rule_in_force_again(db: None) -> None:
    rule = Rule.add(**FIELDS)
    Rule.suspend(rule.rule_id, rule.version, "broken")
    assert rule.change(condition={"type": "threshold", "operator": ">=", "value": 5})
    assert Rule.get_by_id(rule.rule_id).status == "active"


def test_disabled_and_deleted_rules_are_not_in_force(db: None) -> None:
    disabled, deleted = Rule.add(**FIELDS, enabled=False), Rule.add(**FIELDS)
    before = revision()
    deleted.remove()
    assert disabled.status == "disabled"
    assert Rule.in_force() == (later(before, 1), [])


def test_the_history_has_every_change_of_a_rule(db: None) -> None:
    rule = Rule.add(**FIELDS)
    rule.change(name="Renamed")
    Rule.suspend(rule.rule_id, 2, "division by zero")
    Rule.get_by_id(rule.rule_id).remove()
    assert history(rule) == [
        ("created", 1, None),
        ("changed", 2, None),
        ("suspended", 2, "division by zero"),
        ("deleted", 2, None),
    ]


def test_a_version_holds_the_whole_rule_as_it_was_written(db: None) -> None:
    written = RuleSchema().load({**FIELDS, "key": "errors", "labels": {"team": "payments"}, "description": "Why"})
    rule = Rule.add(**written)
    rule.change(runbook_url="https://wiki.example/errors")
    first, second = RuleVersion.select().order_by(RuleVersion.changed_at)
    assert first.rule == written
    assert second.rule == written | {"runbook_url": "https://wiki.example/errors"}


def test_a_version_has_every_field_that_an_administrator_writes() -> None:
    assert set(WRITTEN) == set(RuleSchema().fields)


def test_a_change_that_fails_leaves_no_version_and_no_revision(db: None) -> None:
    Rule.add(**FIELDS, key="errors")
    other = Rule.add(**FIELDS)
    before = revision()
    with pytest.raises(peewee.IntegrityError):
        Rule.add(**FIELDS, key="errors")
    with pytest.raises(peewee.IntegrityError):
        other.change(key="errors")
    assert revision() == before
    assert history(other) == [("created", 1, None)]


def _change_in_its_own_connection(rule_id: UUID) -> bool:
    with connection():
        return bool(Rule.get_by_id(rule_id).change(name="of another transaction"))


def test_a_transaction_with_several_changes_does_not_deadlock_with_another_change(db: None) -> None:
    """Each change locks the row of `rulebook` before a rule, so that all transactions take locks in the same order."""
    first, second = Rule.add(**FIELDS), Rule.add(**FIELDS)
    with ThreadPoolExecutor(1) as pool:
        with database.atomic():
            assert first.change(name="first")
            change = pool.submit(_change_in_its_own_connection, second.rule_id)
            until(lambda: database.execute_sql("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None)
            assert second.change(name="second")
        assert change.result(timeout=10) is False
    assert Rule.get_by_id(second.rule_id).name == "second"

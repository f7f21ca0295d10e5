"""A rule's versions, its suspension, and the revision that all rules share."""

from models.database import database
from models.rule import Rule

FIELDS = {
    "name": "High error rate",
    "severity": "critical",
    "window_seconds": 60,
    "cooldown_seconds": 300,
    "allowed_lateness_seconds": 60,
    "condition": {"type": "threshold", "operator": ">", "value": 5},
}


def revision() -> int:
    return database.execute_sql("SELECT revision FROM rulebook").fetchone()[0]


def test_a_change_is_the_next_version_and_a_new_revision(db):
    before = revision()
    rule = Rule.add(**FIELDS)
    assert (rule.version, rule.status, revision()) == (1, "active", before + 1)
    assert rule.change(name="Renamed")
    stored = Rule.get_by_id(rule.rule_id)
    assert (stored.name, stored.version, revision()) == ("Renamed", 2, before + 2)
    assert stored.updated_at > stored.created_at


def test_of_two_changes_of_the_same_version_the_second_is_told_no(db):
    rule = Rule.add(**FIELDS)
    stale = Rule.get_by_id(rule.rule_id)
    assert rule.change(name="first")
    assert not stale.change(name="second")
    assert Rule.get_by_id(rule.rule_id).name == "first"


def test_a_suspended_rule_says_why_and_is_not_in_force(db):
    sound, broken = Rule.add(**FIELDS), Rule.add(**FIELDS)
    assert Rule.suspend(broken.rule_id, broken.version, "division by zero")
    stored = Rule.get_by_id(broken.rule_id)
    assert (stored.status, stored.error) == ("error", "division by zero")
    assert Rule.in_force() == (revision(), [sound])


def test_a_rule_is_suspended_once_and_only_in_the_version_that_raised(db):
    rule = Rule.add(**FIELDS)
    assert not Rule.suspend(rule.rule_id, rule.version + 1, "of another version")
    assert Rule.suspend(rule.rule_id, rule.version, "the first reason")
    before = revision()
    assert not Rule.suspend(rule.rule_id, rule.version, "the second reason")
    assert revision() == before
    assert Rule.get_by_id(rule.rule_id).error == "the first reason"


def test_a_change_puts_a_suspended_rule_in_force_again(db):
    rule = Rule.add(**FIELDS)
    Rule.suspend(rule.rule_id, rule.version, "broken")
    assert rule.change(condition={"type": "threshold", "operator": ">=", "value": 5})
    assert Rule.get_by_id(rule.rule_id).status == "active"


def test_disabled_and_deleted_rules_are_not_in_force(db):
    disabled, deleted = Rule.add(**FIELDS, enabled=False), Rule.add(**FIELDS)
    before = revision()
    deleted.remove()
    assert disabled.status == "disabled"
    assert Rule.in_force() == (before + 1, [])

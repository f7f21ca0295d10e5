"""Tests of the release of the state of rules, and of its survey: memory, degraded rules, and orphans."""

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import redis
from structlog.testing import capture_logs
from support.pipeline_factory import rule
from support.rule_factory import event

from actors.broker import broker
from actors.rule_state import owners, report, rulebook
from actors.rule_state.release import StateRelease
from actors.rule_state.report import Cost, RuleState
from actors.rule_state.survey import StateSurvey
from actors.rule_state.sweep import SWEEP, sweep
from actors.rule_state.windows import measured_window
from actors.rule_state.windows.measured_window import MeasuredWindow
from actors.rule_state.windows.redis_windows import RedisWindow
from models.database import connection
from models.rule import Rule
from rules.engine.evaluate import evaluate_batch
from rules.event import Event

#: A threshold with a window for each user, and a bucketed condition with one group.
BY_USER: dict[str, Any] = {"type": "threshold", "group_by": ["payload.user"], "operator": ">", "value": 100}
ZSCORE: dict[str, Any] = {"type": "zscore", "bucket_seconds": 60, "baseline_buckets": 3, "threshold": 3}
INVALID: dict[str, Any] = {"type": "invalid_payload", "required_fields": {"error": ["amount"]}}
PLENTY_MIB = 1_000


def users(count: int, first: int = 0) -> list[Event]:
    """Return an event of each of `count` users."""
    return [event(number, number / 1000, payload={"user": number}) for number in range(first, first + count)]


def evaluate(events: Iterable[Event]) -> None:
    """Evaluate events with the published rules as a worker does, and start the cooldowns."""
    events = list(events)
    for start in range(0, len(events), 500):
        window = measured_window.sampled_window(broker.client)
        evaluation = evaluate_batch(events[start : start + 500], rulebook.Rulebook().current(), window)
        window.start_cooldowns([firing.claim for firing in evaluation.firings if firing.claim.cooldown])


def keys(client: redis.Redis, kind: str = "*") -> set[bytes]:
    """Return the keys of windows and cooldowns."""
    found: Any = client.keys(f"eventpulse:{kind}:*:*")
    return {key for key in found if key.split(b":")[1] in (b"window", b"cooldown")}


def near(client: redis.Redis, found: set[bytes], seconds: int) -> bool:
    """Return whether all keys expire in `seconds`, or a few seconds less, because the test takes time."""
    return bool(found) and all(seconds - 10 <= client.ttl(key) <= seconds for key in found)


def change(row: Rule, **fields: Any) -> None:
    with connection():
        assert Rule.get_by_id(row.rule_id).change(**fields)
    rulebook.publish()


def remove(row: Rule) -> None:
    with connection():
        assert Rule.get_by_id(row.rule_id).remove()
    rulebook.publish()


def disable(row: Rule) -> None:
    change(row, enabled=False)


def change_condition(row: Rule) -> None:
    change(row, condition=ZSCORE | {"threshold": 4})


def suspend(row: Rule) -> None:
    rulebook.suspend(str(row.rule_id), row.version, "division by zero")


def state(row: Rule) -> RuleState:
    return report.read_all()[str(row.rule_id)]


def survey(budget_mib: float = PLENTY_MIB) -> None:
    StateSurvey(budget_mib).run()  # type: ignore[arg-type] # tests use small budgets


@pytest.fixture
def release(pipeline: redis.Redis) -> StateRelease:
    """Return a job that has seen the published rules."""
    job = StateRelease()
    assert job.run() == 0
    return job


@pytest.mark.parametrize("end", [remove, disable, suspend, change_condition])
def test_the_state_of_a_rule_that_is_no_longer_in_force_is_deleted(pipeline: redis.Redis, end: Any) -> None:
    other = rule(condition=BY_USER)
    evaluate(users(20))
    others = keys(pipeline)
    row = rule(condition=ZSCORE)
    release = StateRelease()
    release.run()
    evaluate(users(20))
    assert len(keys(pipeline)) == len(others) + 2
    end(row)
    assert release.run() == 2
    assert keys(pipeline) == others
    assert release.run() == 0
    assert str(other.rule_id) in {each.rule_id for owned in owners.published().rules.values() for each in owned}


def test_the_cooldowns_of_a_deleted_rule_are_deleted(release: StateRelease, pipeline: redis.Redis) -> None:
    row = rule(condition=INVALID)
    release.run()
    evaluate(users(1))
    assert len(keys(pipeline, "cooldown")) == 1
    remove(row)
    release.run()
    assert keys(pipeline) == set()


def test_the_state_of_a_changed_rule_is_kept_if_its_keys_are_the_same(
    release: StateRelease, pipeline: redis.Redis
) -> None:
    row = rule(condition=ZSCORE)
    release.run()
    evaluate(users(20))
    before = keys(pipeline)
    change(row, name="Renamed", severity="info", cooldown_seconds=7)
    assert release.run() == 0
    assert keys(pipeline) == before


def test_keys_that_a_worker_writes_with_the_previous_rules_are_deleted_too(
    release: StateRelease, pipeline: redis.Redis
) -> None:
    row = rule(condition=ZSCORE)
    release.run()
    previous = rulebook.Rulebook().current()
    evaluate(users(5))
    remove(row)
    assert release.run() > 0
    evaluate_batch(users(5), previous, RedisWindow(broker.client))
    assert keys(pipeline)
    assert release.run() > 0
    assert (release.run(), keys(pipeline)) == (0, set())


def test_the_release_deletes_every_key_of_many_rules(release: StateRelease, pipeline: redis.Redis) -> None:
    rows = [rule(condition=BY_USER | {"value": 100 + number}) for number in range(5)]
    kept = rule(condition=ZSCORE)
    release.run()
    evaluate(users(1_000))
    for row in rows:
        disable(row)
    while release.run():
        pass
    assert {key.split(b":")[2].decode() for key in keys(pipeline)} == {str(kept.rule_id)}


def test_no_key_is_deleted_with_the_owners_of_an_earlier_revision(pipeline: redis.Redis) -> None:
    """Otherwise a sweep could delete the windows of a rule that was published after the sweep had begun."""
    rule(condition=ZSCORE)
    earlier = owners.published()
    rule(condition=BY_USER)
    evaluate(users(10))
    before = keys(pipeline)
    argument = (earlier.revision, "0", 1_000, "*", dict.fromkeys(earlier.rules, (0, 0)), True)
    assert msgspec.msgpack.decode(SWEEP(pipeline, [], [msgspec.msgpack.encode(argument)])) == []
    assert keys(pipeline) == before


def test_a_sweep_continues_with_the_rules_that_are_published_during_the_sweep(pipeline: redis.Redis) -> None:
    rule(condition=ZSCORE)
    evaluate(users(1))
    pipeline.set(f"eventpulse:window:{uuid4()}:0:0", 1)
    rows: list[Rule] = []

    def plan(known: owners.Owners) -> dict[str, tuple[int, int]]:
        if not rows:
            rows.append(rule(condition=BY_USER))
            evaluate(users(10))
        return dict.fromkeys(known.rules, (1, 0))

    swept = sweep(plan)
    assert swept.released == 1
    assert sum(tally.windows for tally in swept.tallies.values()) == 1 + 10


def test_the_survey_deletes_state_without_a_rule(pipeline: redis.Redis) -> None:
    """The scheduler may have been restarted, or may not have run, when the rule was deleted."""
    row = rule(condition=ZSCORE)
    evaluate(users(10))
    remove(row)
    other = rule(condition=BY_USER)
    evaluate(users(10))
    assert StateSurvey(PLENTY_MIB).run() == 2
    assert state(other).series == 10


def test_the_state_of_a_rule_that_this_version_cannot_read_is_kept(pipeline: redis.Redis) -> None:
    row = rule(condition={"type": "absence", "after_seconds": 60})
    unknown = {
        f"eventpulse:window:{row.rule_id}:0123:4567".encode(),
        f"eventpulse:cooldown:{row.rule_id}:0123:4567".encode(),
        b"eventpulse:window:0123456789abcdef01234567:4567",  # may be shared by rules like this
    }
    for key in unknown:
        pipeline.set(key, 1)
    pipeline.set(f"eventpulse:window:{uuid4()}:0123:4567", 1)
    assert StateSurvey(PLENTY_MIB).run() == 1
    assert keys(pipeline) == unknown


def test_only_keys_of_windows_and_cooldowns_are_deleted(release: StateRelease, pipeline: redis.Redis) -> None:
    row = rule(condition=ZSCORE)
    release.run()
    evaluate(users(1))
    pipeline.set("eventpulse:counts:123:a:b", 1)
    others = set(pipeline.keys("*")) - keys(pipeline)
    remove(row)
    release.run()
    survey()
    assert others <= set(pipeline.keys("*"))
    assert keys(pipeline) == set()


@pytest.mark.parametrize(
    ("condition", "series"), [(BY_USER, 300), (ZSCORE, 1), (INVALID, 1), (ZSCORE | {"group_by": ["payload.user"]}, 300)]
)
def test_the_survey_counts_the_groups_and_the_memory_of_a_rule(
    pipeline: redis.Redis, condition: dict[str, Any], series: int
) -> None:
    row = rule(condition=condition)
    evaluate(users(300))
    survey()
    expected = sum(pipeline.memory_usage(key) or 0 for key in keys(pipeline))
    assert (state(row).state_bytes, state(row).series) == (expected, series)
    assert state(row).degraded is None


def test_the_memory_of_many_groups_is_estimated_from_a_part_of_them(pipeline: redis.Redis) -> None:
    row = rule(condition=BY_USER)
    evaluate(users(8_000))
    survey()
    exact = state(row).state_bytes
    survey()
    assert state(row).series == 8_000
    assert state(row).state_bytes == pytest.approx(exact, rel=0.15)
    assert state(row).state_bytes != exact


def test_a_rule_above_its_budget_is_degraded_and_counts_no_new_groups(pipeline: redis.Redis) -> None:
    row, other = rule(condition=BY_USER), rule(condition=ZSCORE)
    evaluate(users(500))
    with capture_logs() as logs:
        survey(budget_mib=0.05)
    degraded = state(row).degraded
    assert degraded is not None
    assert "the budget is 0 MiB" in degraded.reason
    assert state(other).degraded is None
    assert [line["event"] for line in logs] == ["rule_degraded"]
    windows = keys(pipeline, "window")
    evaluate(users(600))
    assert keys(pipeline, "window") == windows
    survey(budget_mib=0.05)
    assert (state(row).series, state(row).uncounted_events, state(other).uncounted_events) == (500, 100, 0)
    kept_since = state(row).degraded
    assert kept_since is not None
    assert kept_since.since == degraded.since


def test_a_degraded_rule_still_fires_for_the_groups_that_it_has(pipeline: redis.Redis) -> None:
    rule(condition=BY_USER | {"value": 2}, cooldown_seconds=0)
    evaluate([event(number, payload={"user": 1}) for number in range(2)])
    survey(budget_mib=0.0001)
    known, new = ([event(number, payload={"user": user}) for number in range(3)] for user in (1, 2))
    evaluation = evaluate_batch(known + new, rulebook.Rulebook().current(), RedisWindow(broker.client))
    assert [firing.group for firing in evaluation.firings] == [{"payload.user": 1}]


def test_the_state_of_a_degraded_rule_is_kept_for_the_minimum_retention(pipeline: redis.Redis) -> None:
    condition = BY_USER | {"value": 0}
    rule(condition=condition, window_seconds=600, cooldown_seconds=60, allowed_lateness_seconds=240)
    evaluate(users(20))
    assert near(pipeline, keys(pipeline, "window"), 600 + 240 + 3600)
    survey(budget_mib=0.001)
    survey(budget_mib=0.001)
    assert near(pipeline, keys(pipeline), 600 + 180), "keys that no event uses any more"
    evaluate(users(20))
    assert near(pipeline, keys(pipeline, "window"), 600 + 180)
    assert near(pipeline, keys(pipeline, "cooldown"), 60 + 240 + 60 + 180)


def test_a_degraded_rule_recovers_below_four_fifths_of_its_budget(pipeline: redis.Redis) -> None:
    row = rule(condition=BY_USER)
    evaluate(users(500))
    survey()
    size = state(row).state_bytes / 2**20
    survey(budget_mib=size * 0.99)
    assert state(row).degraded
    survey(budget_mib=size * 1.2)
    assert state(row).degraded, "the rule needs more than 80 % of its budget"
    with capture_logs() as logs:
        survey(budget_mib=size * 1.3)
    assert (state(row).degraded, [line["event"] for line in logs]) == (None, ["rule_recovered"])
    evaluate(users(600))
    assert len(keys(pipeline, "window")) == 600


def test_a_rule_without_windows_is_degraded_but_keeps_its_cooldowns(pipeline: redis.Redis) -> None:
    row = rule(condition=INVALID)
    evaluate(users(1))
    survey(budget_mib=0.0001)
    assert state(row).degraded
    evaluate([event(1, source="till")])
    assert len(keys(pipeline, "cooldown")) == 2


def test_the_state_of_a_deleted_rule_is_removed_from_the_report(pipeline: redis.Redis) -> None:
    row = rule(condition=BY_USER)
    evaluate(users(50))
    survey(budget_mib=0.001)
    remove(row)
    survey(budget_mib=0.001)
    assert report.read_all() == {}
    assert not pipeline.exists(report.DEGRADED)


def test_a_degraded_window_passes_its_query_to_the_next_window(pipeline: redis.Redis) -> None:
    """An update may have false as its query, if this is the query of the update before; see prelude.lua."""
    rule(condition=BY_USER)
    evaluate(users(1, first=5))
    survey(budget_mib=0.0001)
    evaluate(users(10))
    assert len(keys(pipeline, "window")) == 1


def test_a_sample_of_the_batches_is_measured(pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    rule(condition=BY_USER)
    rule(condition=ZSCORE)
    monkeypatch.setattr(measured_window, "MEASURED_SHARE", 0)
    evaluate(users(1_000))
    assert not pipeline.exists(measured_window.EVENTS)
    monkeypatch.setattr(measured_window, "MEASURED_SHARE", 1)
    evaluate(users(1_000))
    assert [int(count) for count in pipeline.hvals(measured_window.EVENTS)] == [1_000, 1_000]
    assert sum(int(amount) for amount in pipeline.hvals(measured_window.MICROSECONDS)) > 0


def test_the_cost_of_a_rule_is_derived_from_the_measured_times(pipeline: redis.Redis) -> None:
    one, other, stateless = rule(condition=ZSCORE), rule(condition=ZSCORE), rule(condition=INVALID)
    measured = {one: (3_000, 1_000), other: (1_000, 100), stateless: (0, 0)}
    for prefix, rules in owners.published().rules.items():
        row = next(row for row in measured if str(row.rule_id) == rules[0].rule_id)
        pipeline.hincrby(measured_window.MICROSECONDS, f"eventpulse:window:{prefix}", measured[row][0])
        pipeline.hincrby(measured_window.EVENTS, f"eventpulse:window:{prefix}", measured[row][1])
    survey()
    assert state(one).cost == Cost(3.0, 0.75)
    assert state(other).cost == Cost(10.0, 0.25)
    assert state(stateless).cost is None


def test_the_measured_times_decay_until_nothing_is_left(pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_window, "MEASURED_SHARE", 1)
    row = rule(condition=BY_USER)
    evaluate(users(10))
    survey()
    assert state(row).cost
    while pipeline.exists(measured_window.MICROSECONDS, measured_window.EVENTS):
        survey()
    survey()
    assert state(row).cost is None


def test_a_measured_batch_has_the_same_results(pipeline: redis.Redis) -> None:
    rules = [rule(condition=BY_USER | {"value": 2 + number}) for number in range(3)]
    rules.append(rule(condition=BY_USER | {"operator": "=="}))
    events = [event(number, number / 100, payload={"user": number % 7}) for number in range(400)]
    compiled = rulebook.Rulebook().current()
    plain = evaluate_batch(events, compiled, RedisWindow(pipeline)).firings
    for key in keys(pipeline):
        pipeline.delete(key)
    measured = evaluate_batch(events, compiled, MeasuredWindow(RedisWindow(pipeline), pipeline)).firings
    assert plain
    assert sorted(measured, key=repr) == sorted(plain, key=repr)

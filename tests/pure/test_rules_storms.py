"""Tests of storms: which firings are recorded, and how the others are described."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from support.rule_factory import NOON, event, fired, number, rule
from support.rule_factory import decide as evaluate

from rules.engine import storms
from rules.engine.series import Firing
from rules.engine.storms import Storm, StormCaps
from rules.windows.memory import MemoryWindow

ALWAYS = {"type": "threshold", "operator": ">=", "value": 1, "group_by": ["source"]}
CAPS = StormCaps(per_series=3, per_rule=5)


def firings(*sources: str, **fields: Any) -> list[Firing]:
    """Return the firings of a rule for one event of each source, in order of time."""
    events = [event(n, source=source) for n, source in enumerate(sources)]
    return evaluate(events, MemoryWindow(), rule(ALWAYS, **fields)).firings


def numbers(found: Iterable[Firing]) -> list[int]:
    return [number(firing.event_id) for firing in found]


def storm(**fields: Any) -> Storm:
    defaults: dict[str, Any] = {
        "rule_name": "High error rate",
        "above_series_cap": 1_800,
        "above_rule_cap": 42,
        "seconds": 60,
        "group_count": 37,
        "top_groups": [('{"source":"checkout"}', 900), ('{"source":"cart"}', 500), ('{"source":"api"}', 40)],
        "since": NOON,
        "is_lasting": False,
    }
    return Storm(**defaults | fields)


def test_firings_up_to_the_cap_of_their_series_are_recorded_and_the_others_counted() -> None:
    decision = storms.decide(firings("a", "a", "b", "a", "a", "b"), {}, CAPS)
    assert numbers(decision.recorded) == [0, 1, 2, 3, 5]
    assert [(number(each.firing.event_id), each.reason) for each in decision.suppressed] == [(4, "series cap")]


def test_firings_up_to_the_cap_of_their_rule_are_recorded_and_the_others_counted() -> None:
    decision = storms.decide(firings(*"abcdefg"), {}, CAPS)
    assert numbers(decision.recorded) == [0, 1, 2, 3, 4]
    assert [each.reason for each in decision.suppressed] == ["rule cap", "rule cap"]


def test_anomalies_of_the_last_minute_count_for_the_caps() -> None:
    found = firings("a", "b", "b")
    series = found[0].claim.key
    assert numbers(storms.decide(found, {("r1", series): 3}, CAPS).recorded) == [1, 2]
    assert numbers(storms.decide(found, {("r1", "other"): 4}, CAPS).recorded) == [0]
    assert numbers(storms.decide(found, {("r2", series): 100}, CAPS).recorded) == [0, 1, 2]


def test_the_caps_of_one_rule_do_not_limit_another_rule() -> None:
    events = [event(n) for n in range(4)]
    one, other = rule(ALWAYS), rule(ALWAYS, rule_id="r2")
    decision = storms.decide(evaluate(events, MemoryWindow(), one, other).firings, {}, CAPS)
    assert len(decision.recorded) == 6
    assert {each.firing.rule.rule_id for each in decision.suppressed} == {"r1", "r2"}


def test_a_firing_within_the_cooldown_of_a_recorded_firing_is_neither_recorded_nor_counted() -> None:
    (first,) = firings("a", cooldown_seconds=300)
    later = evaluate([event(9, source="a")], MemoryWindow(), rule(ALWAYS, cooldown_seconds=300)).firings
    decision = storms.decide([first, *later], {}, StormCaps(1, 1))
    assert (numbers(decision.recorded), decision.suppressed, numbers(decision.in_cooldown)) == ([0], [], [9])


def test_a_cooldown_limits_a_storm_before_the_caps() -> None:
    events = [event(n, source="a") for n in range(100)]
    assert fired(events, MemoryWindow(), rule(ALWAYS, cooldown_seconds=300)) == [0]


def test_a_message_has_the_number_of_firings_and_the_most_frequent_groups() -> None:
    assert storms.explain_storm(storm()) == (
        "High error rate: 1,842 further firings in 60 s, 37 groups, "
        "top source=checkout (900), source=cart (500), source=api (40)"
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"group_count": 1, "top_groups": [("{}", 1_842)]}, "R: 1,842 further firings in 60 s"),
        (
            {"above_series_cap": 1, "above_rule_cap": 0, "group_count": 1, "top_groups": [('{"source":"a"}', 1)]},
            "R: 1 further firing in 60 s, 1 group, top source=a (1)",
        ),
        (
            {"group_count": 1, "top_groups": [("{}", 1_842)], "is_lasting": True},
            "R: 1,842 further firings in 60 s; storming since 2026-11-20 12:00:00 UTC",
        ),
        (
            {"group_count": 2, "top_groups": [('{"source":"cut', 1)]},
            'R: 1,842 further firings in 60 s, 2 groups, top {"source":"cut… (1)',
        ),
    ],
    ids=["no groups", "one firing", "lasting", "long group"],
)
def test_a_message_describes_any_storm(fields: dict[str, Any], text: str) -> None:
    assert storms.explain_storm(storm(rule_name="R", **fields)) == text


def test_the_evidence_of_a_storm_has_exact_counts_and_ten_groups() -> None:
    groups = [(f'{{"source":"{n}"}}', 100 - n) for n in range(12)]
    evidence = storms.storm_evidence(storm(top_groups=groups, since=NOON + timedelta(seconds=1)), CAPS)
    assert evidence["observed"] == 1_842
    assert (evidence["above_series_cap"], evidence["above_rule_cap"]) == (1_800, 42)
    assert evidence["limit"] == "at most 3 anomalies per group and 5 per rule in 60 s"
    assert evidence["top_groups"] == [{"group_key": key, "firings": count} for key, count in groups[:10]]
    assert (evidence["groups"], evidence["samples"], evidence["storming"]) == (37, [], False)

"""Tests that bundles and batches have the same results as EVENTPULSE_BATCH=1, which processes one message per call.

All events are received at the same time and no window is full, so only zscore rules and cooldowns depend on the
order of the events.
"""

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import msgspec
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.pipeline_factory import rule
from support.rule_factory import at, event
from support.stock_vs_batched import Outcome, Request, run_batched, run_single

from models.anomaly import Anomaly
from models.channel import Channel
from models.database import connection
from models.rule import Rule

SPAN_SECONDS, LATENESS_SECONDS = 60, 45
ZSCORE = {"type": "zscore", "bucket_seconds": 5, "baseline_buckets": 2, "threshold": 1.5, "group_by": ["source"]}
FILTERS = st.sampled_from([{}, {"event_type": "order"}])
THRESHOLDS = st.fixed_dictionaries(
    {
        "type": st.just("threshold"),
        "operator": st.sampled_from([">", ">="]),
        "value": st.integers(1, 5),
        "filters": FILTERS,
        "group_by": st.sampled_from([[], ["source"], ["source", "event_type"]]),
    }
)
SPIKES = st.fixed_dictionaries({"type": st.just("rate_spike"), "max_events": st.integers(1, 4), "filters": FILTERS})


def make_event(number: int, seconds: float, **fields: Any) -> bytes:
    return msgspec.json.encode(event(number, seconds, received_at=at(SPAN_SECONDS), **fields))


@st.composite
def traffic(draw: st.DrawFn) -> list[Request]:
    """Generate requests with events in any order. Some events are late or repeated.

    The first request has at least two events.
    """
    half_seconds = st.integers(0, 2 * SPAN_SECONDS).map(lambda halves: halves / 2)
    spots = st.tuples(half_seconds, st.sampled_from(["order", "error"]), st.sampled_from(["shop", "till"]))
    events = [
        make_event(number, seconds, event_type=kind, source=source, payload={"amount": number / 10, "text": 'ü\n"'})
        for number, (seconds, kind, source) in enumerate(draw(st.lists(spots, min_size=3, max_size=24)))
    ]
    order = draw(st.permutations(events + draw(st.lists(st.sampled_from(events), max_size=6))))
    cuts = sorted(draw(st.sets(st.integers(2, len(order) - 1), max_size=4)))
    return [(order[start:end], draw(st.booleans())) for start, end in pairwise([0, *cuts, len(order)])]


def set_rules(*conditions: dict[str, Any], window_seconds: int = 10, cooldown_seconds: int = 0) -> None:
    """Replace all rules with one rule for each condition, and disable all channels."""
    with connection():
        Rule.delete().execute()
        Channel.update(enabled=False).execute()
    for condition, severity in zip(conditions, ("critical", "warning", "info"), strict=False):
        rule(
            name=condition["type"],
            severity=severity,
            window_seconds=window_seconds,
            cooldown_seconds=cooldown_seconds,
            allowed_lateness_seconds=LATENESS_SECONDS,
            condition=condition,
        )


def identity(found: Iterable[Anomaly]) -> set[tuple[Any, ...]]:
    return {
        (each.rule_id, each.severity, each.group_key, each.series, each.event_id, each.occurred_at) for each in found
    }


def near(one: Anomaly, other: Anomaly, seconds: int) -> bool:
    return one.series == other.series and abs(one.cooldown_anchor - other.cooldown_anchor) < timedelta(seconds=seconds)


def check_cooldown(found: list[Anomaly], others: list[Anomaly], seconds: int) -> None:
    """Check that cooldowns of `seconds` explain the difference between the anomalies of two runs.

    Any two anomalies of a series in `found` are at least one cooldown apart. Each anomaly in `others` is less than one
    cooldown from an anomaly of its series in `found`.
    """
    assert not any(near(one, other, seconds) for one in found for other in found if one != other)
    assert all(any(near(other, one, seconds) for one in found) for other in others)


def without_zscores(outcome: Outcome) -> list[Anomaly]:
    """Return the anomalies of all rules except zscore, whose results depend on the order of arrival."""
    return [each for each in outcome.anomalies if each.rule_name != "zscore"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    requests=traffic(),
    counts=st.lists(THRESHOLDS | SPIKES, min_size=1, max_size=2),
    seconds=st.integers(1, 20),
    cooldown=st.just(0) | st.integers(1, 30),
)
def test_single_messages_and_batches_have_the_same_results(
    pipeline: redis.Redis, requests: list[Request], counts: list[dict[str, Any]], seconds: int, cooldown: int
) -> None:
    set_rules(*counts, ZSCORE, window_seconds=seconds, cooldown_seconds=cooldown)
    one, other = run_single(pipeline, requests), run_batched(pipeline, requests)
    assert len(one.rows) == len({each for events, _ in requests for each in events})
    assert one.rows == other.rows
    assert one.windows == other.windows
    assert one.dead == other.dead == []
    found, others = without_zscores(one), without_zscores(other)
    if cooldown:
        check_cooldown(found, others, cooldown)
        check_cooldown(others, found, cooldown)
    else:
        assert identity(found) == identity(others)


def test_zscores_are_the_same_if_events_arrive_in_order(pipeline: redis.Redis) -> None:
    set_rules(ZSCORE)
    events = [make_event(number, seconds) for number, seconds in enumerate([*range(20, 50, 3), *[50] * 6])]
    one, other = run_single(pipeline, [(events, False)], concurrency=1), run_batched(pipeline, [(events, False)])
    assert one.windows == other.windows
    assert identity(one.anomalies) == identity(other.anomalies)
    assert one.anomalies


def test_an_event_that_fails_is_dead_lettered_alone_on_both_paths(pipeline: redis.Redis) -> None:
    set_rules({"type": "rate_spike", "max_events": 3})
    good = [make_event(number, 50 + number / 10) for number in range(12)]
    failing = make_event(99, 50, payload={"text": "\0"})
    requests = [(good[:4], False), ([*good[4:7], failing, *good[7:9]], False), (good[9:], False)]
    one, other = run_single(pipeline, requests), run_batched(pipeline, requests)
    assert one.dead == other.dead == [("persist", "00000000-0000-7000-8000-000000000099", 4)]
    assert len(one.rows) == 12
    assert one.rows == other.rows
    assert one.windows == other.windows
    assert len(one.anomalies) == 9
    assert identity(one.anomalies) == identity(other.anomalies)

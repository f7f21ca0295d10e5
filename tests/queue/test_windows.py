"""Tests of windows in Redis: the same results as in memory, state shared by all workers, and bounded memory."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.arrival_orders import (
    Arrivals,
    arrivals,
    check_any_order,
    check_cooldown,
    check_same_answers,
    check_shared_windows,
    cooldowns,
    limits,
    needs,
    windows,
)
from support.redis_config import configured
from support.rule_factory import THRESHOLD, at, decide, event, fired, number, rule

from actors.rule_state.windows.redis_windows import OBSERVE, RedisWindow
from rules.event import SECOND
from rules.windows.memory import MODELS, MemoryWindow
from rules.windows.queries import (
    COUNT_ERROR,
    QUERIES,
    BucketBaseline,
    CountWithin,
    Member,
    NthWithin,
    Window,
    WindowQuery,
    WindowResult,
    WindowUpdate,
    merge,
)

# Each example empties Redis itself: hypothesis does not repeat function-scoped fixtures.
few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ZSCORE: dict[str, Any] = {"type": "zscore", "bucket_seconds": 10, "baseline_buckets": 3, "threshold": 3}
SPAN_SECONDS = 30
lateness = st.just(SPAN_SECONDS)
#: Strategies for queries, by type of query.
EXAMPLES: dict[type[WindowQuery], st.SearchStrategy[WindowQuery]] = {
    NthWithin: st.lists(st.builds(NthWithin.of, needs, windows, lateness), min_size=1, max_size=5).map(merge),
    CountWithin: st.lists(st.builds(CountWithin.of, needs, windows, lateness), min_size=1, max_size=3).map(merge),
    BucketBaseline: st.builds(BucketBaseline.of, st.integers(1, 10), st.integers(1, 4), lateness),
}


@st.composite
def batches(draw: st.DrawFn, query: WindowQuery) -> list[list[WindowUpdate]]:
    """Generate batches of updates of at most two windows. A repeated member has the same time and value each time."""
    times = draw(st.lists(st.integers(0, SPAN_SECONDS * SECOND), min_size=1, max_size=20))
    values = st.integers(1, 5) | st.floats(-5, 5)
    members: list[Member] = [(time, f"event-{number}", draw(values)) for number, time in enumerate(times)]
    some = st.sets(st.sampled_from(members), min_size=1, max_size=8).map(sorted)
    keys = st.sets(st.sampled_from(["eventpulse:window:a", "eventpulse:window:b"]), min_size=1).map(sorted)
    return [
        [WindowUpdate(key, query, max(times), draw(some)) for key in draw(keys)] for _ in range(draw(st.integers(1, 8)))
    ]


def test_every_query_has_a_model_a_script_and_examples() -> None:
    assert set(QUERIES) == MODELS.keys() == OBSERVE.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("query_type", QUERIES)
@few
@given(data=st.data())
def test_a_query_has_the_same_results_in_redis_and_in_memory(
    redis_client: "redis.Redis", query_type: type[WindowQuery], data: st.DataObject
) -> None:
    redis_client.flushdb()
    memory, shared = MemoryWindow(), RedisWindow(redis_client)
    for updates in data.draw(EXAMPLES[query_type].flatmap(batches)):
        assert sorted(shared.observe(updates), key=repr) == sorted(memory.observe(updates), key=repr)


@few
@given(case=arrivals(), needed=needs, seconds=windows)
def test_several_workers_find_the_same_firings_as_one_worker_in_order(
    redis_client: "redis.Redis", case: Arrivals, needed: int, seconds: int
) -> None:
    redis_client.flushdb()
    check_any_order(case, RedisWindow(redis_client), needed, seconds)


@few
@given(case=arrivals(), needed=needs, seconds=windows, cooldown=cooldowns)
def test_workers_share_a_cooldown(
    redis_client: "redis.Redis", case: Arrivals, needed: int, seconds: int, cooldown: int
) -> None:
    redis_client.flushdb()
    check_cooldown(case, RedisWindow(redis_client), needed, seconds, cooldown)


@few
@given(case=arrivals(), chosen=limits, cooldown=st.just(0) | cooldowns)
def test_rules_that_share_a_window_fire_as_if_each_had_its_own(
    redis_client: "redis.Redis", case: Arrivals, chosen: list[tuple[str, int, int]], cooldown: int
) -> None:
    redis_client.flushdb()
    check_shared_windows(case, RedisWindow(redis_client), chosen, cooldown)


@few
@given(case=arrivals(), cooldown=st.just(0) | cooldowns)
def test_rules_fire_the_same_with_redis_and_with_memory(
    redis_client: "redis.Redis", case: Arrivals, cooldown: int
) -> None:
    redis_client.flushdb()
    check_same_answers(case, RedisWindow(redis_client), MemoryWindow(), cooldown)


def test_a_window_holds_at_most_a_few_times_the_counted_events(redis_client: "redis.Redis") -> None:
    window, counted = RedisWindow(redis_client), rule(THRESHOLD | {"value": 9}, window_seconds=3600)
    for start in range(0, 10_000, 500):
        fired((event(number, number / 10) for number in range(start, start + 500)), window, counted)
    (key,) = redis_client.keys("eventpulse:window:*")
    assert 10 + 256 <= redis_client.zcard(key) < 10 + 256 + 64


def test_a_window_holds_no_event_older_than_its_width_and_the_lateness(redis_client: "redis.Redis") -> None:
    fired((event(number) for number in range(100)), RedisWindow(redis_client), rule(allowed_lateness_seconds=20))
    (key,) = redis_client.keys("eventpulse:window:*")
    assert redis_client.zcard(key) == 30


def test_a_window_that_is_rarely_used_drops_old_events_too(redis_client: "redis.Redis") -> None:
    window, rarely_used = RedisWindow(redis_client), rule(allowed_lateness_seconds=20)
    for place in range(10):
        fired([event(place, 100 * place)], window, rarely_used)
    (key,) = redis_client.keys("eventpulse:window:*")
    assert redis_client.zcard(key) == 1


@pytest.mark.parametrize(
    "condition",
    [THRESHOLD | {"value": 0}, THRESHOLD | {"operator": "=="}, ZSCORE],
    ids=["nth", "count", "buckets"],
)
def test_every_key_in_redis_expires(redis_client: "redis.Redis", condition: dict[str, Any]) -> None:
    fired((event(number) for number in range(3)), RedisWindow(redis_client), rule(condition, cooldown_seconds=60))
    keys = redis_client.keys("*")
    assert keys
    assert all(0 < redis_client.ttl(key) <= 3600 + 3600 + 120 for key in keys)


@pytest.mark.parametrize(("used", "room"), [(0.3, 1.0), (0.575, 0.5), (0.9, 0.0), (2.0, 0.0)])
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (THRESHOLD | {"value": 0}, {"window": (10 + 180, 10 + 3600 + 3600), "cooldown": (3720 + 180, 3720 + 3600)}),
        (THRESHOLD | {"operator": "=="}, {"window": (10 + 180, 10 + 3600 + 3600)}),
        (ZSCORE, {"window": (40 + 180, 3700 + 3600), "ids": (10 + 180, 10 + 900)}),
    ],
    ids=["nth", "count", "buckets"],
)
def test_windows_are_kept_for_a_shorter_time_in_a_redis_that_fills_up(
    redis_client: "redis.Redis",
    condition: dict[str, Any],
    expected: dict[str, tuple[int, int]],
    used: float,
    room: float,
) -> None:
    """If windows were kept as long as usual, a rule with very many groups could fill Redis and stop ingest."""
    redis_client.setrange("ballast", 20_000_000, b"x")
    with configured(redis_client, maxmemory=round(redis_client.info("memory")["used_memory"] / used)):
        fired([event(1)], RedisWindow(redis_client), rule(condition, cooldown_seconds=60))
    retention = {_kind(key): redis_client.ttl(key) for key in redis_client.keys("eventpulse:*")}
    wanted = {kind: least + room * (most - least) for kind, (least, most) in expected.items()}
    assert retention == {kind: pytest.approx(seconds, rel=0.1, abs=10) for kind, seconds in wanted.items()}


def _kind(key: bytes) -> str:
    _, kind, *rest = key.decode().split(":")
    return "ids" if len(rest) > 3 else kind


def test_a_window_of_many_rules_costs_few_commands(redis_client: "redis.Redis") -> None:
    """With a command for each rule and event, 300 rules that match all events made the evaluation 47 times slower."""
    window = RedisWindow(redis_client)
    rules = [
        rule(THRESHOLD | {"value": 100 + value}, rule_id=str(value), window_seconds=60 + value % 3)
        for value in range(300)
    ]
    assert _commands(redis_client, lambda: fired(map(event, range(50)), window, *rules)) == {"zadd": 1}
    fired((event(number, number / 100) for number in range(100, 600)), window, *rules)
    later = [event(number, 80 + number / 1000) for number in range(700, 750)]
    assert _commands(redis_client, lambda: fired(later, window, *rules)) == {"zadd": 1, "zcount": 1}
    narrow = [rule(THRESHOLD | {"value": 80 + value}, rule_id=str(value), window_seconds=1) for value in range(300)]
    wide = [rule(THRESHOLD | {"value": 800 + value}, rule_id=f"w{value}", window_seconds=600) for value in range(300)]
    last = [event(number, 90 + number / 1000) for number in range(750, 770)]
    assert _commands(redis_client, lambda: fired(last, window, *narrow, *wide)) == {"zadd": 1, "zcount": 2}


def test_rules_that_fire_for_every_event_cost_few_commands(redis_client: "redis.Redis") -> None:
    window = RedisWindow(redis_client)
    rules = [rule(THRESHOLD | {"value": value}, rule_id=str(value), window_seconds=60) for value in range(100)]
    fired((event(number, number / 100) for number in range(200)), window, *rules)
    later = [event(number, number / 100) for number in range(200, 250)]
    firings: list[int] = []
    used = _commands(redis_client, lambda: firings.extend(fired(later, window, *rules)))
    assert len(firings) == 100 * 50
    assert (used["zadd"], used["zcount"]) == (1, 1)
    assert used["zrange"] <= 1 + 100


def _commands(client: "redis.Redis", act: Callable[[], object]) -> dict[str, int]:
    """Return the number of calls of each command on sorted sets while `act` runs."""
    client.config_resetstat()
    act()
    used = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in client.info("commandstats").items()}
    return {name: calls for name, calls in used.items() if name in ("zadd", "zcount", "zrange", "zrank")}


def test_a_redelivered_event_may_be_followed_by_very_many_members(redis_client: "redis.Redis") -> None:
    """Lua passes at most 8,000 values of a table to a function."""
    window, counted = RedisWindow(redis_client), rule(THRESHOLD | {"value": 9_000}, window_seconds=3600)
    events = [event(number, number / 10) for number in range(9_500)]
    firings = [
        number for start in range(0, 9_500, 500) for number in fired(events[start : start + 500], window, counted)
    ]
    assert firings == list(range(9_000, 9_500))
    assert fired([events[0]], window, counted) == firings


def test_a_shared_window_keeps_the_events_that_the_rule_with_the_highest_limit_needs(
    redis_client: "redis.Redis",
) -> None:
    rules = [rule(THRESHOLD | {"value": value}, rule_id=str(value), window_seconds=3600) for value in (9, 900, 20)]
    for window in (RedisWindow(redis_client), MemoryWindow()):
        found = [
            firing
            for start in range(0, 1_000, 100)
            for firing in decide(map(event, range(start, start + 100)), window, *rules).firings
        ]
        assert [number(firing.event_id) for firing in found if firing.rule.rule_id == "900"] == list(range(900, 1_000))


def test_an_event_in_the_far_future_removes_no_member(redis_client: "redis.Redis") -> None:
    window = RedisWindow(redis_client)
    fired([event(1), event(2)], window, rule())
    assert fired([event(9, 10**9, received_at=at(2))], window, rule()) == []
    assert fired([event(3)], window, rule()) == [3]


def test_old_buckets_are_dropped(redis_client: "redis.Redis") -> None:
    window, counted = RedisWindow(redis_client), rule(ZSCORE, allowed_lateness_seconds=0)
    for bucket in range(100):
        fired([event(bucket, 10 * bucket)], window, counted)
    (key,) = [key for key in redis_client.keys("eventpulse:window:*") if redis_client.type(key) == b"hash"]
    assert redis_client.hlen(key) <= 2 * 10 + 1
    assert fired([event(1000 + place, 1000 + place / 10) for place in range(5)], window, counted) == [1003, 1004]


def observe(window: Window, query: BucketBaseline, members: Sequence[Member]) -> list[WindowResult]:
    """Add the members, in batches of 500, to one window; return the results."""
    batches = [sorted(members[start : start + 500]) for start in range(0, len(members), 500)]
    updates = [WindowUpdate("eventpulse:window:a", query, max(batch)[0], batch) for batch in batches]
    return [result for update in updates for result in window.observe([update])]


@few
@given(data=st.data(), exact=st.integers(0, 4))
def test_the_estimates_of_small_buckets_are_the_counts_of_the_model(
    redis_client: "redis.Redis", data: st.DataObject, exact: int
) -> None:
    """The estimate of up to 20 members is their number, unless two of 16,384 registers are the same."""
    redis_client.flushdb()
    query = BucketBaseline(3 * SECOND, 2, 20, exact)
    memory, shared = MemoryWindow(), RedisWindow(redis_client)
    for updates in data.draw(batches(query)):
        results, expected = sorted(shared.observe(updates), key=repr), sorted(memory.observe(updates), key=repr)
        assert len(results) == len(expected)
        for one, other in zip(results, expected, strict=True):
            assert abs(one.count - other.count) <= 1


def test_the_estimate_of_a_large_bucket_is_within_three_standard_errors_even_after_a_redelivery(
    redis_client: "redis.Redis",
) -> None:
    """Each event is in the first bucket after an empty baseline, so the count is the number of events so far."""
    query, total = BucketBaseline(100 * SECOND, 1, 3, 1_000), 40_000
    members: list[Member] = [(100 * SECOND + number, f"event-{number}", 1) for number in range(total)]
    window = RedisWindow(redis_client)
    observe(window, query, [(1, "an event of the baseline", 1)])
    results = observe(window, query, members)
    assert [result.count for result in results[:1_000]] == list(range(1, 1_001))
    assert results[-1].count == pytest.approx(total, rel=3 * COUNT_ERROR)
    again = observe(window, query, members[-5_000:])
    assert again[-1].count == results[-1].count


def test_the_memory_of_a_bucket_does_not_depend_on_the_number_of_its_events(redis_client: "redis.Redis") -> None:
    query = BucketBaseline(86_400 * SECOND, 3, 10, 4_000)
    sizes = []
    for start in (0, 20_000):
        observe(RedisWindow(redis_client), query, [(at, f"event-{at}", 1) for at in range(start, start + 20_000)])
        sizes.append(sum(redis_client.memory_usage(key, samples=0) for key in redis_client.keys("eventpulse:window:*")))
    assert max(sizes) < 16_000


def test_the_ids_of_a_bucket_that_an_earlier_version_has_written_are_not_counted_again(
    redis_client: "redis.Redis",
) -> None:
    members: list[Member] = [(at, f"event-{at}", 1) for at in range(1, 3_001)]
    observe(RedisWindow(redis_client), BucketBaseline(SECOND, 1, 3, 10_000), members)
    query = BucketBaseline(SECOND, 1, 3, 1_000)
    observe(RedisWindow(redis_client), query, members[-500:])
    observe(RedisWindow(redis_client), query, [(4_000, "a new event", 1)])
    assert redis_client.hget("eventpulse:window:a", "0") == b"3001"
    assert not redis_client.exists("eventpulse:window:a:0")


def test_scripts_are_loaded_again_after_redis_lost_them(redis_client: "redis.Redis") -> None:
    window = RedisWindow(redis_client)
    fired([event(1), event(2)], window, rule(cooldown_seconds=60))
    redis_client.script_flush()
    assert fired([event(3)], window, rule(cooldown_seconds=60)) == [3]


def test_an_unavailable_redis_is_an_error_of_the_window(redis_client: "redis.Redis") -> None:
    unavailable = redis.Redis(unix_socket_path="/nonexistent/redis.sock", retry=None)
    with pytest.raises(redis.ConnectionError):
        fired([event(1)], RedisWindow(unavailable), rule())


def test_a_batch_of_many_groups_and_events_finds_every_group(redis_client: "redis.Redis") -> None:
    by_user = rule(THRESHOLD | {"group_by": ["payload.user"]}, window_seconds=3600, cooldown_seconds=60)
    events = [event(number, number / 1000, payload={"user": number % 600}) for number in range(1_900)]
    assert fired(events, RedisWindow(redis_client), by_user) == fired(events, MemoryWindow(), by_user)

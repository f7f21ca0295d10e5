"""Tests of the condition zscore: counts that are unusual for their group."""

from typing import Any

import pytest
from support.rule_factory import at, decide, event, fired, rule

from rules.engine.explain import explain
from rules.event import SECOND, Event
from rules.verdict import Verdict
from rules.windows.memory import MemoryWindow
from rules.windows.queries import BucketBaseline, WindowResult

ZSCORE: dict[str, Any] = {"type": "zscore", "bucket_seconds": 10, "baseline_buckets": 3, "threshold": 3}


def flow(*counts: int, start: int = 0) -> list[Event]:
    """Return events in consecutive buckets of 10 s; each of `counts` is the number of events in one bucket.

    Event 302 is the third event of bucket 3.
    """
    return [
        event(100 * bucket + place, 10 * bucket + place / 100)
        for bucket, count in enumerate(counts, start)
        for place in range(count)
    ]


def test_a_burst_after_an_even_flow_fires() -> None:
    assert fired(flow(2, 2, 2, 6), MemoryWindow(), rule(ZSCORE)) == [304, 305]


@pytest.mark.parametrize("buckets", [0, 1, 2])
def test_no_count_is_unusual_before_the_baseline_is_complete(buckets: int) -> None:
    assert fired(flow(*[1] * buckets, 99), MemoryWindow(), rule(ZSCORE)) == []


def test_empty_buckets_belong_to_the_baseline() -> None:
    assert fired(flow(1, 0, 0, 0, 4), MemoryWindow(), rule(ZSCORE)) == [402, 403]


def test_a_larger_deviation_needs_a_higher_count() -> None:
    # The baseline has mean 4 and standard deviation 3.27, so the limit is 4 + 3 x 3.27 = 13.8.
    (firing,) = decide(flow(0, 4, 0, 8, 14), MemoryWindow(), rule(ZSCORE)).firings
    assert firing.verdict.details == pytest.approx(
        {"count": 14, "mean": 4, "deviation": 3.266, "bucket_seconds": 10}, rel=1e-3
    )
    assert firing.verdict.observed == pytest.approx(3.06, rel=1e-2)
    assert explain(firing, 14) == "Many errors: 14 events in 10 s, 3.1 standard deviations above the mean of 4.0"


def verdict(count: int, mean: int, deviation: int = 0) -> Verdict:
    """Return the verdict for a bucket after two buckets with this mean and this standard deviation."""
    condition = rule(ZSCORE | {"baseline_buckets": 2}).condition
    assert condition.windowed
    counts = (mean - deviation, mean + deviation)
    squares = sum(each * each for each in counts)
    return condition.evaluate(WindowResult(0, 0, count, [], sum(counts), squares), "")


def test_the_error_of_an_estimated_count_does_not_fire() -> None:
    """The count of a constant flow of 100,000 events may be estimated as 102,400, three standard errors too high."""
    assert not verdict(102_400, 100_000).fires
    assert verdict(102_500, 100_000).fires
    assert verdict(4_000, 3_997).fires, "an exact count"
    assert not verdict(4_001, 3_997).fires, "an estimated count"


def test_a_larger_deviation_than_the_error_is_used_as_it_is() -> None:
    assert verdict(103_000, 100_000, 1_000).observed == 3
    assert verdict(109_000, 100_000, 3_000).details["deviation"] == 3_000


def test_the_verdict_on_an_estimated_count_states_its_error() -> None:
    assert verdict(200_000, 100_000).reason.startswith("about 200000 events in 10 s")
    assert verdict(200_000, 100_000).details["count_error"] == 0.0081
    assert "count_error" not in verdict(4_000, 1).details


def test_a_redelivered_event_does_not_count_twice() -> None:
    window, events = MemoryWindow(), flow(2, 2, 2, 4)
    assert fired(events, window, rule(ZSCORE)) == []
    assert fired(events, window, rule(ZSCORE)) == []


def test_a_redelivered_burst_fires_for_the_same_events() -> None:
    window, events = MemoryWindow(), flow(2, 2, 2, 6)
    assert fired(events, window, rule(ZSCORE)) == fired(events, window, rule(ZSCORE)) == [304, 305]


def test_the_selection_is_the_whole_bucket() -> None:
    selection = decide(flow(2, 2, 2, 5), MemoryWindow(), rule(ZSCORE)).firings[0].selection
    assert selection is not None
    assert (selection.after, selection.until) == (at(29.999999), at(39.999999))


def test_buckets_older_than_any_baseline_are_dropped() -> None:
    window, counted = MemoryWindow(), rule(ZSCORE, allowed_lateness_seconds=0)
    fired(flow(*[1] * 100), window, counted)
    (state,) = window._windows.values()
    assert len(state.buckets.ids) <= 2 * 10
    assert fired(flow(5, start=100), window, counted) == [10003, 10004]


def test_the_counts_of_the_baseline_and_of_the_current_bucket_are_kept() -> None:
    assert BucketBaseline.of(bucket_seconds=10, baseline=5, allowed_lateness_seconds=0).span == 60 * SECOND

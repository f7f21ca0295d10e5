"""Tests of the channel limiter: concurrent sends to a channel, and pauses after failures."""

from actors.channel_limits import MAX_PAUSE_SECONDS, ChannelLimiter


def test_a_failing_channel_is_paused_for_longer_after_each_failure() -> None:
    limiter = ChannelLimiter()
    limiter.acquire("channel")
    pauses = [limiter.record_failure("channel") for _ in range(10)]
    for failures, pause in enumerate(pauses):
        ceiling = min(2.0 * 2**failures, MAX_PAUSE_SECONDS)
        assert ceiling / 2 <= pause <= ceiling
    limiter.release("channel")
    assert limiter.acquire("channel") > MAX_PAUSE_SECONDS / 2 - 1
    assert limiter.acquire("another") == 0


def test_a_channel_is_paused_for_the_longest_requested_time() -> None:
    limiter = ChannelLimiter()
    assert limiter.acquire("channel") == limiter.acquire("channel") == 0
    limiter.record_failure("channel", after_seconds=60)
    limiter.record_failure("channel", after_seconds=1)
    assert limiter.acquire("channel") > 50


def test_at_most_two_sends_to_a_channel_run_at_the_same_time() -> None:
    limiter = ChannelLimiter()
    assert limiter.acquire("channel") == limiter.acquire("channel") == 0
    assert 0 < limiter.acquire("channel") < 1
    limiter.release("channel")
    assert limiter.acquire("channel") == 0


def test_after_a_failure_one_send_at_a_time_is_a_probe_until_a_success() -> None:
    limiter = ChannelLimiter()
    limiter.acquire("channel")
    limiter.record_failure("channel", after_seconds=0)
    limiter.release("channel")
    assert limiter.acquire("channel") == 0
    assert 0 < limiter.acquire("channel") < 1
    limiter.record_success("channel")
    assert limiter.acquire("channel") == 0

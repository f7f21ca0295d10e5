"""Tests of the limits of channels: pauses after failures and throttling, snoozes and detours."""

import pytest

from actors.channels.limits import ChannelLimits

LIMITS = ChannelLimits()


def test_a_failing_channel_is_paused_for_longer_after_each_failure() -> None:
    for failures in range(1, 12):
        ceiling = min(2.0 * 2 ** (failures - 1), 60.0)
        assert ceiling / 2 <= LIMITS.failure_pause(failures, None) <= ceiling


@pytest.mark.parametrize(("requested", "pause"), [(0, 2), (1, 2), (17, 17), (3600, 900)])
def test_a_requested_pause_is_obeyed_within_limits(requested: float, pause: float) -> None:
    assert LIMITS.failure_pause(5, requested) == pause


@pytest.mark.parametrize(("requested", "pause"), [(None, 1), (0, 1), (1, 1), (30, 30), (3600, 900)])
def test_a_channel_that_throttles_is_paused_for_the_requested_time(requested: float | None, pause: float) -> None:
    assert LIMITS.throttle_pause(requested) == pause


def test_only_a_delivery_that_fails_again_on_a_healthy_channel_is_snoozed() -> None:
    assert LIMITS.snooze(attempts=1, failures=0) == 0
    assert LIMITS.snooze(attempts=9, failures=4) == 0
    assert 2 <= LIMITS.snooze(attempts=2, failures=0) <= 4


def test_every_eighth_probe_of_a_failing_channel_is_a_detour() -> None:
    assert [failures for failures in range(25) if LIMITS.is_detour(failures)] == [8, 16, 24]

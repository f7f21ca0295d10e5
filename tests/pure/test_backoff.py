"""Test of the backoff: the pause before a retry doubles up to a limit, with jitter."""

import pytest

from eventpulse.backoff import backoff_seconds


@pytest.mark.parametrize(("failures", "ceiling"), [(0, 0.5), (1, 0.5), (2, 1.0), (4, 4.0), (6, 15.0), (500, 15.0)])
def test_a_pause_is_between_half_the_ceiling_and_the_ceiling(failures: int, ceiling: float) -> None:
    pauses = {backoff_seconds(failures, 0.5, 15.0) for _ in range(50)}
    assert all(ceiling / 2 <= pause <= ceiling for pause in pauses)
    assert len(pauses) > 1

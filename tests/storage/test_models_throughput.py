"""Test that the roll-up of a minute replaces the earlier throughput row of this minute."""

from datetime import UTC, datetime

from models.throughput import Throughput

MINUTE = datetime(2026, 11, 20, 12, 5, tzinfo=UTC)


def test_rolling_a_minute_up_again_replaces_its_counts(db: None) -> None:
    Throughput.record(MINUTE, accepted=10, persisted=8, queue_depth=2)
    Throughput.record(MINUTE, accepted=12, persisted=12)
    row = Throughput.get_by_id(MINUTE)
    assert (row.accepted, row.persisted, row.queue_depth) == (12, 12, 2)

"""Tests of the state of a channel, which all workers share, and of notices about failing channels."""

from datetime import timedelta

import pytest

from models.base import now
from models.channel import Channel
from models.channel_notice import ChannelNotice
from models.channel_state import ChannelState, Condition

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def channel(db: None) -> Channel:
    return Channel.create(name="ops", kind="slack")


def condition(channel: Channel) -> Condition:
    return ChannelState.condition(channel, steady_seconds=30)


def end_pause() -> None:
    ChannelState.update(paused_until=now() - timedelta(seconds=1)).execute()


def fail(channel: Channel, failures: int = 1, minutes_ago: float = 0) -> None:
    """Record a failure; the outage began `minutes_ago`."""
    ChannelState.record_failure(channel, failures, 30, "status 503")
    ChannelState.update(failing_since=now() - timedelta(minutes=minutes_ago)).execute()


def test_a_channel_without_a_state_is_healthy(channel: Channel) -> None:
    assert condition(channel) == Condition()
    assert not condition(channel).sends_alone


def test_a_failing_channel_is_paused_and_one_worker_probes_it(channel: Channel) -> None:
    fail(channel, 3)
    assert condition(channel).failures == 3
    assert 25 < condition(channel).pause_seconds <= 30
    assert condition(channel).sends_alone
    assert not ChannelState.reserve(channel), "reserved during the pause"
    end_pause()
    assert ChannelState.reserve(channel)
    assert not ChannelState.reserve(channel), "two probes at the same time"
    assert 10 < condition(channel).pause_seconds <= 15


def test_a_success_ends_the_outage_once(channel: Channel) -> None:
    fail(channel)
    assert ChannelState.record_recovered(channel)
    assert not ChannelState.record_recovered(channel)
    assert (condition(channel).failures, condition(channel).failing_since) == (0, None)
    assert condition(channel).pause_seconds <= 0
    assert not condition(channel).accepts_steadily, "a digest right after an outage"
    ChannelState.update(accepting_since=now() - timedelta(seconds=31)).execute()
    assert condition(channel).accepts_steadily


def test_a_changed_channel_has_no_state(channel: Channel) -> None:
    fail(channel, 9)
    assert channel.change(settings={"webhook_url": "https://repaired.example"})
    changed = Channel.get_by_id(channel.channel_id)
    assert condition(changed) == Condition()
    fail(changed, 1)
    assert condition(changed).failures == 1
    ChannelState.record_failure(channel, 10, 900, "late failure of the earlier version")
    assert condition(changed).failures == 1


def test_the_state_of_a_deleted_channel_is_not_recorded(channel: Channel) -> None:
    channel.remove()
    fail(channel)
    assert not ChannelState.select().exists()


def test_throttling_is_not_a_failure_and_slows_the_channel_down(channel: Channel) -> None:
    ChannelState.record_throttled(channel, 5, "status 429")
    found = condition(channel)
    assert (found.failures, found.failing_since, found.interval_seconds) == (0, None, 0.25)
    assert 4 < found.pause_seconds <= 5
    assert found.sends_alone
    ChannelState.record_throttled(channel, 5, "status 429")
    slower = condition(channel).interval_seconds
    assert slower == pytest.approx(0.375)
    end_pause()
    assert ChannelState.reserve(channel)
    assert 0 < condition(channel).pause_seconds <= slower
    assert condition(channel).interval_seconds == pytest.approx(slower * 0.98)


def test_a_rejection_marks_the_channel_as_failing_without_a_pause(channel: Channel) -> None:
    ChannelState.record_rejected(channel, "status 404 (no_service)")
    found = condition(channel)
    assert (found.failures, found.pause_seconds) == (0, 0.0)
    assert found.failing_since


def test_an_outage_is_announced_once_on_the_other_channels_that_work(channel: Channel) -> None:
    others = {Channel.create(name=name, kind="slack") for name in ("one", "two")}
    failing = Channel.create(name="also failing", kind="slack")
    Channel.create(name="disabled", kind="slack", enabled=False)
    fail(channel, minutes_ago=2)
    ChannelState.record_failure(failing, 1, 30, "timeout")
    (outage,) = ChannelState.take_unannounced(60)
    assert (outage.name, outage.reason) == ("ops", "status 503")
    assert ChannelState.take_unannounced(60) == []
    builtin = {each.channel_id for each in Channel.select().where(Channel.kind != "slack")}
    targets = ChannelNotice.add(outage, is_failing=True)
    assert set(targets) == builtin | {other.channel_id for other in others}
    assert condition(channel).is_announced


def test_a_short_outage_and_a_disabled_channel_are_not_announced(channel: Channel) -> None:
    fail(channel, minutes_ago=0.5)
    assert ChannelState.take_unannounced(60) == []
    fail(channel, minutes_ago=5)
    Channel.update(enabled=False).where(Channel.channel_id == channel.channel_id).execute()
    assert ChannelState.take_unannounced(60) == []


def test_a_notice_is_claimed_by_one_worker_until_it_is_settled(channel: Channel) -> None:
    other = Channel.create(name="other", kind="slack")
    fail(channel, minutes_ago=2)
    (outage,) = ChannelState.take_unannounced(60)
    ChannelNotice.add(outage, is_failing=True)
    notice = ChannelNotice.claim(other.channel_id)
    assert notice
    assert (notice.subject_name, notice.reason, notice.is_failing) == ("ops", "status 503", True)
    assert ChannelNotice.claim(other.channel_id) is None
    ChannelNotice.release(notice.notice_id)
    assert ChannelNotice.claim(other.channel_id) == notice
    ChannelNotice.settle(notice.notice_id)
    assert ChannelNotice.claim(other.channel_id) is None


def test_a_notice_that_is_out_of_date_is_not_sent(channel: Channel) -> None:
    other = Channel.create(name="other", kind="slack")
    fail(channel, minutes_ago=2)
    (outage,) = ChannelState.take_unannounced(60)
    ChannelNotice.add(outage, is_failing=True)
    ChannelNotice.update(created_at=now() - timedelta(minutes=61)).execute()
    assert ChannelNotice.claim(other.channel_id) is None
    ChannelNotice.drop_old()
    assert not ChannelNotice.select().exists()

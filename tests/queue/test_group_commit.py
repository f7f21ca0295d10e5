"""The door of the queue: requests share their calls to Redis, and a refusal holds for a moment."""

import threading
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import redis
from support.pipeline_factory import event
from support.waiting import until

from actors import runtime
from actors.broker import broker
from actors.pipeline import ingest
from actors.transport import group_commit
from actors.transport.errors import QueueUnavailable
from actors.transport.group_commit import GroupCommit, HighWaterMarks
from actors.transport.messages import event_of, line, request_id_of

Script = Any


@pytest.fixture
def calls(pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> "list[threading.Event]":
    """The calls of `accept` so far; each goes to Redis when its event is set."""
    made: list[threading.Event] = []
    script: Script = broker.scripts["accept"]

    def hold(*arguments: Any) -> Any:
        made.append(threading.Event())
        made[-1].wait(10)
        return script(*arguments)

    monkeypatch.setitem(broker.scripts, "accept", hold)
    return made


def send(name: str, refused: list[str]) -> threading.Thread:
    def run() -> None:
        try:
            ingest.accept([event(source=name)], name)
        except QueueUnavailable as error:
            refused.append(error.reason)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def boarded(count: int) -> bool:
    return runtime.current().group_commit.waiting_messages == count


def test_requests_that_come_during_a_call_share_the_next(calls: list[threading.Event], pipeline: redis.Redis) -> None:
    first = send("first", [])
    until(lambda: calls)
    others = [send(f"other-{number}", []) for number in range(5)]
    until(lambda: boarded(5))
    calls[0].set()
    until(lambda: len(calls) == 2)
    assert others[0].is_alive(), "accepted before Redis confirmed it"
    calls[1].set()
    for thread in (first, *others):
        thread.join(10)
    assert len(calls) == 2
    queued = [each for data in pipeline.hvals("eventpulse:persist.msgs") for each in data.split(b"\n")[1:]]
    assert {msgspec.json.decode(event_of(each))["source"] for each in queued} == {
        "first",
        *(f"other-{number}" for number in range(5)),
    }
    assert all(msgspec.json.decode(event_of(each))["source"] == request_id_of(each) for each in queued)


def test_all_who_shared_a_call_are_refused_with_it(
    calls: list[threading.Event], pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    first = send("first", refused)
    until(lambda: calls)
    others = [send("other", refused) for _ in range(3)]
    until(lambda: boarded(3))
    monkeypatch.setattr(runtime.current().group_commit, "marks", HighWaterMarks(backlog=1))
    calls[0].set()
    until(lambda: len(calls) == 2)
    calls[1].set()
    for thread in (first, *others):
        thread.join(10)
    assert refused == ["more than 1 events wait to be stored"] * 3


def test_an_error_of_the_one_who_leads_leaves_nobody_waiting(
    calls: list[threading.Event], pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    first = send("first", refused)
    until(lambda: calls)
    leader_failed: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: leader_failed.append(raised.exc_value))
    others = [send("other", refused) for _ in range(3)]
    until(lambda: boarded(3))

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setitem(broker.scripts, "accept", fail)
    calls[0].set()
    for thread in (first, *others):
        thread.join(10)
    assert [type(error) for error in leader_failed] == [MemoryError]
    assert refused == ["the request that committed this group was interrupted"] * 2


def test_a_refusal_holds_for_a_moment_and_costs_redis_nothing(
    pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = GroupCommit(broker, "persist", HighWaterMarks(backlog=1))
    runtime.bind(replace(runtime.current(), group_commit=commit))
    ingest.accept([event()], None)
    ingest.check_accepting()
    with pytest.raises(QueueUnavailable, match="more than 1 events"):
        ingest.accept([event()], None)
    with pytest.raises(QueueUnavailable, match="more than 1 events"):
        ingest.check_accepting()
    pipeline.flushdb()
    until(lambda: commit.rejection_reason() is None)
    ingest.accept([event()], None)


def test_a_group_does_not_grow_without_end(
    calls: list[threading.Event], pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = 3 * len(line(event(source="other-0"), "other-0")) + 50
    monkeypatch.setattr(group_commit, "MAX_GROUP_BYTES", three)
    threads = [send("first", [])]
    until(lambda: calls)
    for number in range(9):
        threads.append(send(f"other-{number}", []))
        until(lambda: boarded(number % 3 + 1))  # noqa: B023 - asked at once
    for place in range(4):
        until(lambda: len(calls) == place + 1)  # noqa: B023
        calls[place].set()
    for thread in threads:
        thread.join(10)
    assert pipeline.get("eventpulse:persist.count") == b"10"


def test_a_large_request_is_given_more_time(pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a slow network longer to carry than Redis to answer is not refused for it."""
    large = event(payload={"text": "x" * group_commit.BULK_BYTES})
    monkeypatch.setattr(broker, "client", redis.Redis(unix_socket_path="/nobody/is/here"))
    ingest.accept([large], None)
    with pytest.raises(QueueUnavailable):
        ingest.accept([event()], None)

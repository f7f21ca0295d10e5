"""Tests of group commit: requests that share calls to Redis, and rejections."""

import os
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
from actors.pipeline.records import event_of, event_records, request_id_of
from actors.transport import group_commit
from actors.transport.entry_id import new_id, process_id
from actors.transport.errors import QueueUnavailable
from actors.transport.group_commit import GroupCommit, HighWaterMarks

BACKLOG_FULL = "the backlog has reached its limit of 1 messages"


@pytest.fixture
def calls(pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> list[threading.Event]:
    """Block each call of `accept.lua` until the test sets the `threading.Event` of the call; return these objects."""
    held: list[threading.Event] = []
    script = broker.scripts["accept"]

    def hold(*arguments: Any) -> Any:
        held.append(threading.Event())
        held[-1].wait(10)
        return script(*arguments)

    monkeypatch.setitem(broker.scripts, "accept", hold)
    return held


def send(name: str, rejections: list[str]) -> threading.Thread:
    """Start and return a thread that accepts one event, or adds the reason of the rejection to `rejections`."""

    def run() -> None:
        try:
            ingest.accept([event(source=name)], name)
        except QueueUnavailable as error:
            rejections.append(error.reason)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def group_has(count: int) -> bool:
    return runtime.current().group_commit.waiting_messages == count


def test_requests_that_arrive_during_a_call_share_the_next_call(
    calls: list[threading.Event], pipeline: redis.Redis
) -> None:
    first = send("first", [])
    until(lambda: calls)
    others = [send(f"other-{number}", []) for number in range(5)]
    until(lambda: group_has(5))
    calls[0].set()
    until(lambda: len(calls) == 2)
    assert others[0].is_alive(), "accepted before Redis confirmed it"
    calls[1].set()
    for thread in (first, *others):
        thread.join(10)
    assert len(calls) == 2
    records = [record for data in pipeline.hvals("eventpulse:persist.msgs") for record in data.split(b"\n")[1:]]
    assert {msgspec.json.decode(event_of(record))["source"] for record in records} == {
        "first",
        *(f"other-{number}" for number in range(5)),
    }
    assert all(msgspec.json.decode(event_of(record))["source"] == request_id_of(record) for record in records)


def test_a_rejection_applies_to_all_requests_of_a_group(
    calls: list[threading.Event], pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejections: list[str] = []
    first = send("first", rejections)
    until(lambda: calls)
    others = [send("other", rejections) for _ in range(3)]
    until(lambda: group_has(3))
    monkeypatch.setattr(runtime.current().group_commit, "marks", HighWaterMarks(backlog=1, redis_memory_percent=80))
    calls[0].set()
    until(lambda: len(calls) == 2)
    calls[1].set()
    for thread in (first, *others):
        thread.join(10)
    assert rejections == [BACKLOG_FULL] * 3


def test_an_error_in_the_committing_request_rejects_the_others_of_its_group(
    calls: list[threading.Event], pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    rejections: list[str] = []
    first = send("first", rejections)
    until(lambda: calls)
    errors: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: errors.append(raised.exc_value))
    others = [send("other", rejections) for _ in range(3)]
    until(lambda: group_has(3))

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setitem(broker.scripts, "accept", fail)
    calls[0].set()
    for thread in (first, *others):
        thread.join(10)
    assert [type(error) for error in errors] == [MemoryError]
    assert rejections == ["the call to Redis was interrupted: send the request again"] * 2


def test_a_rejection_applies_for_a_moment_without_calls_to_redis(pipeline: redis.Redis) -> None:
    commit = GroupCommit(broker, "persist", HighWaterMarks(backlog=1, redis_memory_percent=80))
    runtime.bind(replace(runtime.current(), group_commit=commit))
    ingest.accept([event()], None)
    ingest.check_accepting()
    with pytest.raises(QueueUnavailable, match=BACKLOG_FULL):
        ingest.accept([event()], None)
    with pytest.raises(QueueUnavailable, match=BACKLOG_FULL):
        ingest.check_accepting()
    pipeline.flushdb()
    until(lambda: commit.rejection_reason() is None)
    ingest.accept([event()], None)


def test_messages_that_redis_did_not_enqueue_are_rejected(
    pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If two processes generate the same id, the second event must be rejected, not lost."""
    monkeypatch.setattr("actors.transport.messages.new_id", lambda: "same")
    ingest.accept([event()], None)
    with pytest.raises(QueueUnavailable, match="Redis enqueued 0 of 1 messages"):
        ingest.accept([event()], None)
    assert "messages_not_enqueued" in capsys.readouterr().out


def test_a_forked_process_generates_ids_of_its_own() -> None:
    reader, writer = os.pipe()
    before = new_id()
    pid = os.fork()
    if pid == 0:
        os.write(writer, f"{process_id()} {new_id()}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    forked_process_id, forked_id = os.read(reader, 1000).decode().split()
    os.close(reader)
    os.close(writer)
    assert before.startswith(process_id())
    assert forked_process_id != process_id()
    assert forked_id.startswith(forked_process_id)


def test_a_group_does_not_grow_beyond_its_limit(
    calls: list[threading.Event], pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = 3 * len(event_records([event(source="other-0")], "other-0")[0]) + 50
    monkeypatch.setattr(group_commit, "MAX_GROUP_BYTES", three)
    threads = [send("first", [])]
    until(lambda: calls)
    for number in range(9):
        threads.append(send(f"other-{number}", []))
        until(lambda: group_has(number % 3 + 1))  # noqa: B023 - called in this iteration
    for place in range(4):
        until(lambda: len(calls) == place + 1)  # noqa: B023
        calls[place].set()
    for thread in threads:
        thread.join(10)
    assert pipeline.get("eventpulse:persist.count") == b"10"


def test_a_large_request_uses_the_client_with_the_longer_timeout(
    pipeline: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow network, a large request may need longer than the usual timeout, but must not be rejected."""
    large = event(payload={"text": "x" * group_commit.BULK_BYTES})
    monkeypatch.setattr(broker, "client", redis.Redis(unix_socket_path="/no/such/socket"))
    ingest.accept([large], None)
    with pytest.raises(QueueUnavailable):
        ingest.accept([event()], None)

"""Between being stored and being evaluated nothing gets lost, not even with Redis' data."""

import msgspec
import pytest
import redis
from support.broker_factory import StartWorker
from support.pipeline_factory import accept, anomalies, event, idle, rule
from support.waiting import until

from actors.broker import broker
from actors.pipeline import evaluate
from actors.recovery import dead_letters, pending_evaluations
from actors.transport.messages import bundles, line
from models.database import connection, database
from models.pending_evaluation import PendingEvaluation


def handed_over() -> int:
    with connection():
        return int(PendingEvaluation.select().count())


def stored_only(
    client: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, *events: bytes
) -> None:
    """Let the events be stored, and their evaluation vanish from Redis."""
    with monkeypatch.context() as patch:
        patch.setitem(broker.actors["evaluate"].options, "concurrency", 0)
        accept(*events)
        worker = start_worker()
        until(lambda: not client.exists("eventpulse:persist.msgs"))
        worker.stop(5_000)
    assert handed_over() == 1
    client.flushdb()


def test_what_was_evaluated_is_not_waited_for(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    accept(*[event() for _ in range(300)])
    start_worker()
    until(lambda: idle(pipeline))
    assert handed_over() == 0


def test_events_that_were_stored_and_never_evaluated_are(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule()
    stored_only(pipeline, start_worker, monkeypatch, *[event() for _ in range(3)])
    assert pending_evaluations.resume() == 0, "it may be under way"
    assert pending_evaluations.resume(overdue_seconds=0) == 3
    assert pipeline.get("eventpulse:evaluate.count") == b"3"
    start_worker()
    until(lambda: idle(pipeline))
    assert len(anomalies()) == 1
    assert handed_over() == 0
    assert pending_evaluations.resume(overdue_seconds=0) == 0


def test_what_waits_for_its_turn_is_left_alone(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "flushdb", lambda: None)
    stored_only(pipeline, start_worker, monkeypatch, event())
    assert pending_evaluations.resume(overdue_seconds=0) == 0
    assert pipeline.get("eventpulse:evaluate.count") == b"1"
    assert handed_over() == 1


def test_what_cannot_be_evaluated_dies_once_and_its_neighbours_do_not(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = evaluate.decode

    def refuse(raw: msgspec.Raw) -> object:
        if b'"poison"' in bytes(raw):
            raise ValueError("it cannot be evaluated")
        return decode(raw)

    monkeypatch.setattr(evaluate, "decode", refuse)
    monkeypatch.setitem(broker.actors["evaluate"].options, "max_retries", 0)
    accept(event(), event(source="poison"), event())
    start_worker()
    until(lambda: idle(pipeline))
    assert dead_letters.reconcile() == 1
    assert handed_over() == 1, "a bundle that was taken apart is not confirmed"
    assert pending_evaluations.resume(overdue_seconds=0) == 2
    until(lambda: idle(pipeline))
    assert handed_over() == 0
    assert dead_letters.reconcile() == 0


def test_what_fails_together_and_not_alone_is_done_after_one_more_time(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = evaluate.decide

    def too_many(events: list[object], *rest: object) -> object:
        if len(events) > 1:
            raise ValueError("too many at once")
        return decide(events, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate, "decide", too_many)
    accept(*[event() for _ in range(5)])
    start_worker()
    until(lambda: idle(pipeline))
    assert pending_evaluations.resume(overdue_seconds=0) == 5
    until(lambda: idle(pipeline))
    assert handed_over() == 0


def test_nothing_counts_as_lost_while_evaluation_is_behind(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_only(pipeline, start_worker, monkeypatch, event())
    (old,) = bundles("evaluate", [line(event(), None)], 1)
    data = old.data.replace(b'"message_timestamp":1', b'"message_timestamp":')
    broker.run_script("enqueue", "evaluate", old.id, data, 0)
    assert pending_evaluations.resume(overdue_seconds=0) == 0
    pipeline.flushdb()
    assert pending_evaluations.resume(overdue_seconds=0) == 1


def test_one_row_that_cannot_be_read_stops_no_other(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_only(pipeline, start_worker, monkeypatch, event())
    with connection():
        database.execute_sql("UPDATE events SET timestamp = '12000-01-01Z'")  # Python knows no such year
    assert pending_evaluations.resume(overdue_seconds=0) == 0
    assert handed_over() == 1


def test_events_that_are_forgotten_by_now_are_not_waited_for(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_only(pipeline, start_worker, monkeypatch, event())
    with connection():
        database.execute_sql("TRUNCATE events")
    assert pending_evaluations.resume(overdue_seconds=0) == 0
    assert handed_over() == 0

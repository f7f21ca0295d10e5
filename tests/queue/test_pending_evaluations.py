"""Tests of pending evaluations: stored events are evaluated even if Redis loses its data."""

import msgspec
import pytest
import redis
from support.broker_factory import StartWorker
from support.pipeline_factory import accept, anomalies, event, idle, rule
from support.waiting import until

from actors.broker import broker
from actors.pipeline import evaluate
from actors.recovery import dead_letters, pending_evaluations
from actors.transport.messages import make_bundles, make_records
from models.database import connection, database
from models.pending_evaluation import PendingEvaluation


def pending_count() -> int:
    """Return the number of pending evaluations."""
    with connection():
        return int(PendingEvaluation.select().count())


def store_only(client: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch, *events: bytes) -> None:
    """Store the events in PostgreSQL without an evaluation, then delete all data of Redis."""
    with monkeypatch.context() as patch:
        patch.setitem(broker.actors["evaluate"].options, "concurrency", 0)
        accept(*events)
        worker = start_worker()
        until(lambda: not client.exists("eventpulse:persist.msgs"))
        worker.stop(5_000)
    assert pending_count() == 1
    client.flushdb()


def test_evaluated_events_have_no_pending_evaluation(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    accept(*[event() for _ in range(300)])
    start_worker()
    until(lambda: idle(pipeline))
    assert pending_count() == 0


def test_stored_events_whose_evaluation_was_lost_are_evaluated(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule()
    store_only(pipeline, start_worker, monkeypatch, *[event() for _ in range(3)])
    assert pending_evaluations.requeue() == 0, "an evaluation that is not overdue was requeued"
    assert pending_evaluations.requeue(overdue_seconds=0) == 3
    assert pipeline.get("eventpulse:evaluate.count") == b"3"
    start_worker()
    until(lambda: idle(pipeline))
    assert len(anomalies()) == 1
    assert pending_count() == 0
    assert pending_evaluations.requeue(overdue_seconds=0) == 0


def test_a_bundle_that_is_still_queued_is_not_requeued(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "flushdb", lambda: None)
    store_only(pipeline, start_worker, monkeypatch, event())
    assert pending_evaluations.requeue(overdue_seconds=0) == 0
    assert pipeline.get("eventpulse:evaluate.count") == b"1"
    assert pending_count() == 1


def test_an_event_with_a_dead_letter_is_not_requeued_with_its_bundle(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = evaluate.decode

    def refuse(raw: msgspec.Raw) -> object:
        if b'"poison"' in bytes(raw):
            raise ValueError("cannot be evaluated")
        return decode(raw)

    monkeypatch.setattr(evaluate, "decode", refuse)
    monkeypatch.setitem(broker.actors["evaluate"].options, "max_retries", 0)
    accept(event(), event(source="poison"), event())
    start_worker()
    until(lambda: idle(pipeline))
    assert dead_letters.reconcile() == 1
    assert pending_count() == 1, "a bundle with a failed event was confirmed"
    assert pending_evaluations.requeue(overdue_seconds=0) == 2
    until(lambda: idle(pipeline))
    assert pending_count() == 0
    assert dead_letters.reconcile() == 0


def test_events_that_fail_only_as_a_batch_are_confirmed_after_one_requeue(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = evaluate.evaluate_batch

    def fail_batches(events: list[object], *rest: object) -> object:
        if len(events) > 1:
            raise ValueError("too many events")
        return decide(events, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate, "evaluate_batch", fail_batches)
    accept(*[event() for _ in range(5)])
    start_worker()
    until(lambda: idle(pipeline))
    assert pending_evaluations.requeue(overdue_seconds=0) == 5
    until(lambda: idle(pipeline))
    assert pending_count() == 0


def test_no_evaluation_counts_as_lost_while_the_queue_is_behind(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_only(pipeline, start_worker, monkeypatch, event())
    (old,) = make_bundles("evaluate", make_records([event()], {}), 1)
    data = old.data.replace(b'"message_timestamp":1', b'"message_timestamp":')
    broker.run_script("enqueue", "evaluate", old.id, data, 0)
    assert pending_evaluations.requeue(overdue_seconds=0) == 0
    pipeline.flushdb()
    assert pending_evaluations.requeue(overdue_seconds=0) == 1


def test_a_row_that_cannot_be_read_is_snoozed_and_kept(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_only(pipeline, start_worker, monkeypatch, event())
    with connection():
        database.execute_sql("UPDATE events SET timestamp = '12000-01-01Z'")  # Python cannot read years after 9999
    assert pending_evaluations.requeue(overdue_seconds=0) == 0
    assert pending_count() == 1


def test_a_pending_evaluation_of_deleted_events_is_removed(
    pipeline: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_only(pipeline, start_worker, monkeypatch, event())
    with connection():
        database.execute_sql("TRUNCATE events")
    assert pending_evaluations.requeue(overdue_seconds=0) == 0
    assert pending_count() == 0

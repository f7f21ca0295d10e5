"""Tests of the periodic jobs, of changes of the leader, and of the recovery of leases."""

import threading
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
import redis
import structlog
from support.broker_factory import StartWorker
from support.pipeline_factory import accept, event, idle, rule
from support.waiting import until

from actors import worker
from actors.broker import broker
from actors.recovery import dead_letters
from actors.rule_state import rulebook
from eventpulse.settings import Settings
from models.base import now
from models.database import connection
from models.dead_letter import DeadLetter
from models.throughput import Throughput
from schedules import scheduler
from schedules.leader import Leadership
from schedules.rollup import roll_up
from schedules.scheduler import run_while_leader
from schedules.timetable import PeriodicJob, timetable


@pytest.fixture(autouse=True)
def _short_leadership_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "LEADERSHIP_INTERVAL_SECONDS", 0.05)


def test_the_roll_up_counts_accepted_stored_evaluated_and_late_events_of_a_minute(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    rule()
    accept(*[event() for _ in range(4)], event(seconds=-7_200))
    start_worker()
    until(lambda: idle(pipeline))
    roll_up()
    expected = {"accepted": 5, "persisted": 5, "evaluated": 5, "late": 1, "anomalies": 1, "delivered": 2, "dead": 0}
    with connection():  # there are two rows if a new minute began during the test
        rows = list(Throughput.select())
    assert {name: sum(getattr(row, name) for row in rows) for name in expected} == expected


def test_the_roll_up_contains_the_depth_and_age_of_the_queues(pipeline: redis.Redis) -> None:
    accept(event(), event())
    roll_up()
    with connection():
        (row,) = Throughput.select()
    assert row.queue_depth == 2
    assert 0 <= row.oldest_age_seconds < 60


def test_a_dead_letter_is_stored_in_postgresql_once(pipeline: redis.Redis) -> None:
    pipeline.zadd("eventpulse:persist.XQ", {"an-id": 1_800_000_000_000})
    pipeline.hset("eventpulse:persist.XQ.msgs", "an-id", b"\xff")
    pipeline.hset("eventpulse:persist.XQ.why", "an-id", "unreadable")
    assert dead_letters.reconcile() == 1
    assert dead_letters.reconcile() == 0
    with connection():
        (letter,) = DeadLetter.select()
    assert (letter.error, bytes(letter.message), letter.dead_lettered_at) == (
        "unreadable",
        b"\xff",
        datetime.fromtimestamp(1_800_000_000, UTC),
    )


def test_every_periodic_job_runs_on_real_servers(pipeline: redis.Redis, empty_database: str) -> None:
    for job in timetable(Settings()).values():
        job.run()
    assert pipeline.exists(rulebook.SNAPSHOT)


def test_dead_letters_and_throughput_are_kept_as_long_as_the_settings_say(empty_database: str) -> None:
    old = now() - timedelta(days=15)
    with connection():
        DeadLetter.create(dead_letter_id="d", queue_name="persist", error="E", message=b"{}", dead_lettered_at=old)
        Throughput.record(old, accepted=1)
    jobs = timetable(Settings(dead_letter_retention_days=20, throughput_retention_days=20))
    assert (jobs["drop_old_dead_letters"].run(), jobs["drop_old_throughput"].run()) == (0, 0)
    jobs = timetable(Settings(dead_letter_retention_days=10, throughput_retention_days=20))
    assert (jobs["drop_old_dead_letters"].run(), jobs["drop_old_throughput"].run()) == (1, 0)
    jobs = timetable(Settings(throughput_retention_days=10))
    assert jobs["drop_old_throughput"].run() == 1


def test_the_leader_changes_and_a_failing_job_does_not_stop_the_others(
    pipeline: redis.Redis, empty_database: str
) -> None:
    ran: list[str] = []

    def fail() -> None:
        raise ValueError("always")

    def start_scheduler(name: str) -> tuple[threading.Thread, threading.Event]:
        stop = threading.Event()
        leadership = Leadership(empty_database)
        jobs = {"note": PeriodicJob(0.02, lambda: ran.append(name)), "fail": PeriodicJob(0.02, fail)}

        def work() -> None:
            run_while_leader(jobs, leadership, stop)
            leadership.release()

        thread = threading.Thread(target=work)
        thread.start()
        return thread, stop

    first, stop_first = start_scheduler("first")
    until(lambda: ran.count("first") > 2)
    second, stop_second = start_scheduler("second")
    stop_first.set()
    first.join(10)
    until(lambda: ran.count("second") > 2)
    stop_second.set()
    second.join(10)
    assert not first.is_alive()
    assert not second.is_alive()


def test_a_leader_that_stops_keeps_the_leadership_until_its_job_is_finished(empty_database: str) -> None:
    stop, started, finish = threading.Event(), threading.Event(), threading.Event()
    leader, other = Leadership(empty_database), Leadership(empty_database)

    def job() -> None:
        started.set()
        finish.wait(10)

    def work() -> None:
        run_while_leader({"job": PeriodicJob(60, job)}, leader, stop)
        leader.release()

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(10)
    stop.set()
    thread.join(0.2)
    assert not other.acquire()
    finish.set()
    until(other.acquire)
    other.release()
    thread.join(10)


def test_a_job_that_takes_longer_than_its_interval_writes_no_warnings(
    empty_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    stop, finish = threading.Event(), threading.Event()
    ticks: list[int] = []
    jobs = {"slow": PeriodicJob(0.01, lambda: finish.wait(10)), "fast": PeriodicJob(0.01, lambda: ticks.append(1))}
    leader = Leadership(empty_database)
    thread = threading.Thread(target=run_while_leader, args=(jobs, leader, stop))
    thread.start()
    until(lambda: len(ticks) > 10)
    finish.set()
    stop.set()
    thread.join(10)
    leader.release()
    assert [record.getMessage() for record in caplog.records if record.name == "apscheduler.scheduler"] == []


def test_changes_of_the_leadership_are_logged(empty_database: str) -> None:
    stop = threading.Event()
    with structlog.testing.capture_logs() as logs:
        thread = threading.Thread(
            target=run_while_leader,
            args=({"nothing": PeriodicJob(60, lambda: None)}, Leadership(empty_database), stop),
        )
        thread.start()
        until(lambda: "leadership_acquired" in events_of(logs))
        end_leader_connections(empty_database)
        until(lambda: events_of(logs).count("leadership_acquired") == 2)
        stop.set()
        thread.join(10)
    assert events_of(logs) == [
        "scheduler_ready",
        "leadership_acquired",
        "postgresql_unavailable",
        "leadership_lost",
        "postgresql_available",
        "leadership_acquired",
    ]


def events_of(logs: Iterable[MutableMapping[str, Any]]) -> list[str]:
    return [entry["event"] for entry in logs]


def end_leader_connections(database_url: str) -> None:
    """Close the connections on which leaders hold their lock."""
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eventpulse-leader'"
        )
    connection.close()


def test_any_worker_requeues_the_messages_of_a_lost_worker(pipeline: redis.Redis) -> None:
    accept(event())
    lost = broker.consume("persist")
    assert next(lost) is not None
    pipeline.zadd("eventpulse:__heartbeats__", {lost.lease: 1})
    worker.recover_leases()
    assert pipeline.delete("eventpulse:__grace__"), "the first recovery did not start a grace period"
    worker.recover_leases()
    assert pipeline.llen("eventpulse:persist") == 1


def test_an_unreadable_lease_does_not_prevent_the_recovery_of_others(pipeline: redis.Redis) -> None:
    accept(event())
    lost = broker.consume("persist")
    assert next(lost) is not None
    pipeline.zadd("eventpulse:__heartbeats__", {"not a lease": 1, lost.lease: 2})
    assert broker.recover(timeout_ms=1) == (0, 0)
    until(lambda: not pipeline.exists("eventpulse:__grace__"))
    assert broker.recover(timeout_ms=1) == (1, 0)
    assert pipeline.zcard("eventpulse:__heartbeats__") == 0


def test_a_failed_recovery_is_logged(pipeline: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.set("eventpulse:__heartbeats__", "not a set of heartbeats")
    worker.recover_leases()
    pipeline.delete("eventpulse:__grace__")
    worker.recover_leases()
    assert "leases_not_recovered" in capsys.readouterr().out

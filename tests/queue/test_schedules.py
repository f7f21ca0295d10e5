"""The timetable at work: roll-ups, the rule snapshot, dead letters, and the handing over of the lead."""

import threading
from datetime import UTC, datetime

import pytest
import redis
from support.broker_factory import StartWorker
from support.pipeline_factory import accept, event, idle, rule
from support.waiting import until

from actors import worker
from actors.broker import broker
from actors.recovery import dead_letters
from actors.rule_state import rulebook
from eventpulse.settings import Settings
from models.database import connection
from models.dead_letter import DeadLetter
from models.throughput import Throughput
from schedules.leader import Leadership
from schedules.rollup import roll_up
from schedules.scheduler import keep
from schedules.timetable import PeriodicJob, timetable


def test_a_minute_is_rolled_up_as_it_happened(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    rule()
    accept(*[event() for _ in range(4)], event(seconds=-7_200))
    start_worker()
    until(lambda: idle(pipeline))
    roll_up()
    wanted = {"accepted": 5, "persisted": 5, "evaluated": 5, "late": 1, "anomalies": 1, "delivered": 2, "dead": 0}
    with connection():  # a minute may have ended meanwhile
        rows = list(Throughput.select())
    assert {name: sum(getattr(row, name) for row in rows) for name in wanted} == wanted


def test_the_depth_and_the_age_of_the_queues_are_rolled_up(pipeline: redis.Redis) -> None:
    accept(event(), event())
    roll_up()
    with connection():
        (row,) = Throughput.select()
    assert row.queue_depth == 2
    assert 0 <= row.oldest_age_seconds < 60


def test_a_redis_that_was_emptied_gets_its_rules_back(pipeline: redis.Redis) -> None:
    rule()
    pipeline.flushdb()
    revision = rulebook.publish()
    assert int(pipeline.get(rulebook.REVISION)) == revision  # type: ignore[arg-type]


def test_an_older_snapshot_never_replaces_a_newer_one(pipeline: redis.Redis) -> None:
    rule()
    newer = int(pipeline.get(rulebook.REVISION)) + 5  # type: ignore[arg-type]
    pipeline.set(rulebook.REVISION, newer)
    assert rulebook.publish() == newer


def test_a_dead_letter_is_moved_into_the_database_once(pipeline: redis.Redis) -> None:
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


def test_the_timetable_runs_against_real_servers(pipeline: redis.Redis, empty_database: str) -> None:
    for duty in timetable(Settings()).values():
        duty.act()
    assert pipeline.exists(rulebook.SNAPSHOT)


def test_the_lead_changes_hands_and_a_failing_duty_stops_nobody(pipeline: redis.Redis, empty_database: str) -> None:
    ran: list[str] = []

    def fail() -> None:
        raise ValueError("always")

    def scheduler(name: str) -> tuple[threading.Thread, threading.Event]:
        stop = threading.Event()
        leadership = Leadership(empty_database)
        duties = {"note": PeriodicJob(0.02, lambda: ran.append(name)), "fail": PeriodicJob(0.02, fail)}

        def work() -> None:
            keep(duties, leadership, stop)
            leadership.release()

        thread = threading.Thread(target=work)
        thread.start()
        return thread, stop

    first, stop_first = scheduler("first")
    until(lambda: ran.count("first") > 2)
    second, stop_second = scheduler("second")
    stop_first.set()
    first.join(10)
    until(lambda: ran.count("second") > 2)
    stop_second.set()
    second.join(10)
    assert not first.is_alive()
    assert not second.is_alive()


def test_work_of_a_vanished_worker_is_given_to_the_living_by_any_of_them(pipeline: redis.Redis) -> None:
    accept(event())
    vanished = broker.consume("persist")
    assert next(vanished) is not None
    pipeline.zadd("eventpulse:__heartbeats__", {vanished.lease: 1})
    worker.reap()
    assert pipeline.delete("eventpulse:__grace__"), "nobody looked after the dead before: the living are given time"
    worker.reap()
    assert pipeline.llen("eventpulse:persist") == 1


def test_a_lease_that_nobody_understands_keeps_no_other_from_being_recovered(pipeline: redis.Redis) -> None:
    accept(event())
    vanished = broker.consume("persist")
    assert next(vanished) is not None
    pipeline.zadd("eventpulse:__heartbeats__", {"no lease of ours": 1, vanished.lease: 2})
    assert broker.recover(timeout_ms=1) == (0, 0)
    until(lambda: not pipeline.exists("eventpulse:__grace__"))
    assert broker.recover(timeout_ms=1) == (1, 0)
    assert pipeline.zcard("eventpulse:__heartbeats__") == 0


def test_a_recovery_that_fails_is_told(pipeline: redis.Redis, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.set("eventpulse:__heartbeats__", "not a set of heartbeats")
    worker.reap()
    pipeline.delete("eventpulse:__grace__")
    worker.reap()
    assert "leases_not_recovered" in capsys.readouterr().out

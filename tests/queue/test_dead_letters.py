"""Tests of dead letters: lists, replay and deletion, in batches."""

import threading
from datetime import timedelta

import msgspec
import pytest
import redis
from support.pipeline_factory import event
from support.waiting import until

from actors.pipeline.persist import persist
from actors.recovery import dead_letters
from models.base import now
from models.database import connection, database
from models.dead_letter import DeadLetter

NOW = now()


def add(dead_letter_id: str, age_seconds: int = 0, queue_name: str = "persist", message: bytes | None = None) -> None:
    """Store a dead letter, by default with a message that the persist actor can process."""
    data = persist.message(msgspec.Raw(event())).encode() if message is None else message
    with connection():
        DeadLetter.create(
            dead_letter_id=dead_letter_id,
            queue_name=queue_name,
            error="DataError",
            message=data,
            dead_lettered_at=NOW - timedelta(seconds=age_seconds),
        )


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "BATCH", 2)


@pytest.mark.usefixtures("pipeline")
def test_ids_are_listed_oldest_first_in_batches() -> None:
    for dead_letter_id, age_seconds in (("c", 1), ("a", 5), ("e", 1), ("b", 3), ("d", 1)):
        add(dead_letter_id, age_seconds)
    assert list(dead_letters.ids()) == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.usefixtures("pipeline")
def test_ids_of_one_queue_are_selected_by_the_server() -> None:
    add("a")
    add("b", queue_name="notify")
    assert list(dead_letters.ids("notify")) == [["b"]]
    assert list(dead_letters.ids("evaluate")) == []


@pytest.mark.usefixtures("pipeline")
def test_a_dead_letter_that_is_added_during_the_iteration_is_not_listed() -> None:
    add("a", 3)
    add("b", 2)
    add("c", 1)
    batches = dead_letters.ids()
    assert next(batches) == ["a", "b"]
    add("d", -60)
    assert list(batches) == [["c"]]


@pytest.mark.usefixtures("pipeline")
def test_dead_letters_are_summarised_without_their_messages() -> None:
    add("a", 2)
    add("b", 1)
    letters = dead_letters.get_many(["a", "b", "none"])
    assert [letter.dead_letter_id for letter in letters] == ["b", "a"]
    assert {letter.message for letter in letters} == {None}


def test_a_replay_keeps_the_dead_letters_that_cannot_be_queued(pipeline: redis.Redis) -> None:
    for dead_letter_id in ("a", "b", "d", "e"):
        add(dead_letter_id)
    add("c", message=b"unreadable")
    queued, errors = dead_letters.replay(["a", "b", "c", "d", "e", "none"])
    assert (queued, errors) == (4, ["dead letter c cannot be replayed: DataError"])
    assert pipeline.llen("eventpulse:persist") == 4
    assert list(dead_letters.ids()) == [["c"]]


@pytest.mark.usefixtures("pipeline")
def test_a_message_that_fails_again_during_its_replay_keeps_its_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new dead letter has the same id as the replayed dead letter, and the replay must not delete it."""
    add("a")
    letter = {"dead_letter_id": "a", "queue_name": "persist", "error": "failed again", "message": b"{}"}
    workers: list[threading.Thread] = []

    def fail_again() -> None:
        with connection():
            DeadLetter.add([letter])

    def is_waiting() -> bool:
        (waiting,) = database.execute_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
        return bool(waiting)

    def enqueue(message: object) -> None:
        workers.append(threading.Thread(target=fail_again))
        workers[0].start()
        until(is_waiting)

    monkeypatch.setattr(dead_letters.broker, "enqueue", enqueue)
    dead_letters.replay(["a"])
    workers[0].join(10)
    (kept,) = dead_letters.list_(10)
    assert kept.error == "failed again"


@pytest.mark.usefixtures("pipeline")
def test_a_replay_that_cannot_reach_redis_keeps_the_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    add("a")
    monkeypatch.setattr(dead_letters.broker, "namespace", "\ud800")  # redis-py cannot encode this key
    with pytest.raises(UnicodeEncodeError):
        dead_letters.replay(["a"])
    assert dead_letters.count() == 1


@pytest.mark.usefixtures("pipeline")
def test_a_purge_returns_how_many_dead_letters_it_deleted() -> None:
    for dead_letter_id in ("a", "b", "c"):
        add(dead_letter_id)
    assert dead_letters.purge(["a", "b", "c", "none"]) == 3
    assert dead_letters.count() == 0


@pytest.mark.parametrize(
    "message",
    [
        b'{"actor_name":"notify","args":["no","ids"],"options":{}}',
        b'{"actor_name":"notify","args":[],"options":[]}',
        b'{"actor_name":5,"args":[{"event_id":5}],"options":{"request_id":"a\\u0000b"}}',
        b'{"actor_name":"persist","args":[{}],"options":{"request_id":"a\\u0000b","traceback":"\\u0000"}}',
        b"[]",
        b"[" * 100_000,
        b"",
    ],
)
def test_any_dead_letter_is_kept_and_does_not_block_the_others(pipeline: redis.Redis, message: bytes) -> None:
    for name, data in (("strange", message), ("plain", msgspec.json.encode({"actor_name": "gone"}))):
        pipeline.zadd("eventpulse:notify.XQ", {name: 1})
        pipeline.hset("eventpulse:notify.XQ.msgs", name, data)
    assert dead_letters.reconcile() == 2
    assert {bytes(letter.message) for letter in dead_letters.list_(10)} >= {message}

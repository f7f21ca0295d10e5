"""Tests of conflicting duplicates: the stored event is evaluated, and the duplicate is dead-lettered."""

import msgspec
import pytest
import redis
from structlog.testing import capture_logs
from support.broker_factory import StartWorker
from support.pipeline_factory import accept, anomalies, event, idle, rule
from support.waiting import until
from uuid_utils.compat import uuid7

from actors.recovery import dead_letters
from models.database import connection
from models.event import Event
from models.throughput import Throughput
from schedules.rollup import roll_up


def process(client: redis.Redis, *events: bytes, request_id: str | None = None) -> None:
    """Accept the events in one request, and wait until all messages are processed."""
    accept(*events, request_id=request_id)
    until(lambda: idle(client))


def test_rules_evaluate_the_stored_event_and_not_the_conflicting_one(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    rule(condition={"type": "threshold", "filters": {"event_type": "error"}, "operator": ">=", "value": 1})
    event_id = str(uuid7())
    start_worker()
    process(pipeline, event(event_id=event_id))
    process(pipeline, event(event_id=event_id, event_type="error"))
    with connection():
        assert Event.get_by_id(event_id).event_type == "order"
    assert anomalies() == []


def test_a_conflicting_event_is_logged_counted_and_kept_whole_as_a_dead_letter(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    event_id = str(uuid7())
    conflicting = event(event_id=event_id, payload={"amount": 99})
    start_worker()
    process(pipeline, event(event_id=event_id))
    with capture_logs() as logs:
        process(pipeline, event(), conflicting, event(), request_id="the-request")
    (letter,) = dead_letters.list_(10)
    assert (letter.queue_name, letter.actor_name, str(letter.event_id)) == ("persist", "persist", event_id)
    assert letter.request_id == "the-request"
    assert msgspec.json.decode(bytes(letter.message))["args"] == [msgspec.json.decode(conflicting)]
    (logged,) = [entry for entry in logs if entry["event"] == "event_id_conflict"]
    assert logged["stored_digest"] != logged["digest"]
    assert f"stored digest {logged['stored_digest']}, digest of this event {logged['digest']}" in letter.error
    roll_up()
    with connection():
        assert Event.select().count() == 3
        assert sum(minute.conflicting for minute in Throughput.select()) == 1


def test_two_contents_for_one_id_in_one_batch_are_a_conflict(pipeline: redis.Redis, start_worker: StartWorker) -> None:
    event_id = str(uuid7())
    start_worker()
    process(pipeline, event(event_id=event_id, source="one"), event(event_id=event_id, source="other"))
    with connection():
        stored = Event.get_by_id(event_id)
    (letter,) = dead_letters.list_(10)
    kept = msgspec.json.decode(bytes(letter.message))["args"][0]["source"]
    assert {stored.source, kept} == {"one", "other"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('{"a":1,"b":[2]}', '{"b":[2.0],"a":1.0}'),
        ('{"big":10000000000000000000000}', '{"big":1e22}'),
        ('{"text":"\\u00e9"}', '{"text":"é"}'),
    ],
    ids=["key order and 1 = 1.0", "large number", "escaped character"],
)
def test_equal_json_in_another_notation_is_not_a_conflict(
    pipeline: redis.Redis, start_worker: StartWorker, first: str, second: str
) -> None:
    sent = event(payload={"x": 0}, received_at="2026-11-20T12:00:00Z")
    spelled = [sent.replace(b'{"x":0}', text.encode()) for text in (first, second)]
    later = spelled[1].replace(b"2026-11-20T12:00:00Z", b"2026-11-20T12:00:05Z")
    start_worker()
    process(pipeline, spelled[0])
    process(pipeline, later)
    assert dead_letters.count() == 0


def test_a_conflicting_event_that_is_delivered_twice_makes_one_dead_letter(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    event_id = str(uuid7())
    conflicting = event(event_id=event_id, payload={"amount": 99})
    start_worker()
    process(pipeline, event(event_id=event_id))
    process(pipeline, conflicting)
    process(pipeline, conflicting)
    assert dead_letters.count() == 1


def test_a_replayed_conflict_stays_a_dead_letter_and_says_how_to_store_it(
    pipeline: redis.Redis, start_worker: StartWorker
) -> None:
    event_id = str(uuid7())
    start_worker()
    process(pipeline, event(event_id=event_id))
    process(pipeline, event(event_id=event_id, payload={"amount": 99}))
    (letter,) = dead_letters.list_(10)
    assert "new id" in letter.error
    assert dead_letters.replay([letter.dead_letter_id])
    until(lambda: idle(pipeline))
    (again,) = dead_letters.list_(10)
    assert again.dead_letter_id == letter.dead_letter_id
    assert msgspec.json.decode(bytes(again.message))["args"] == msgspec.json.decode(bytes(letter.message))["args"]

"""Storing events once, and reading them back as evidence."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import msgspec
import peewee
import pytest

from models.database import database
from models.event import SAMPLES, Event

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def encoded(**fields) -> bytes:
    event = {
        "event_id": uuid4(),
        "event_type": "error",
        "source": "payments",
        "timestamp": NOON,
        "payload": {},
        "metadata": {},
        "received_at": NOON,
    }
    return msgspec.json.encode(event | fields)


def store_window(*payloads) -> None:
    """One event for each payload, a second apart, from noon on."""
    Event.store(encoded(payload=payload, timestamp=NOON + timedelta(seconds=i)) for i, payload in enumerate(payloads))


def count(**equal) -> int:
    paths = {path.replace("__", "."): values for path, values in equal.items()}
    return Event.evidence(paths, NOON - timedelta(seconds=1), NOON + timedelta(seconds=60)).count


def test_an_event_is_read_back_as_it_was_sent(db):
    event_id, payload = uuid4(), {"amount": 12.5, "tags": ["a", None, {"deep": "é\U0001f600"}], "big": 2**60}
    assert Event.store([encoded(event_id=event_id, payload=payload, timestamp="2026-11-20T13:00:00.123456+01:00")]) == 1
    event = Event.get_by_id(event_id)
    assert event.payload == payload
    assert event.timestamp == NOON + timedelta(microseconds=123456)
    assert event.timestamp.utcoffset() == timedelta(0)


def test_storing_an_event_again_changes_nothing(db):
    event_id = uuid4()
    assert Event.store([encoded(event_id=event_id, payload={"n": 1})]) == 1
    assert Event.store([encoded(event_id=event_id, payload={"n": 2}), encoded()]) == 1
    assert Event.get_by_id(event_id).payload == {"n": 1}


def test_an_event_twice_in_one_statement_is_stored_once(db):
    twin = encoded()
    assert Event.store([twin, twin]) == 1


def test_nothing_to_store_stores_nothing(db):
    assert Event.store([]) == 0


@pytest.mark.parametrize(
    "poison",
    [{"event_id": "no-uuid"}, {"timestamp": "yesterday-ish"}, {"payload": {"text": "\x00"}}],
    ids=["id", "time", "nul"],
)
def test_a_poison_event_refuses_its_whole_statement(db, poison):
    with pytest.raises(peewee.DataError), database.atomic():
        Event.store([encoded(), encoded(**poison), encoded()])
    assert Event.select().count() == 0


def test_a_column_left_out_refuses_the_statement(db):
    with pytest.raises(peewee.IntegrityError), database.atomic():
        Event.store([encoded(source=None)])


def test_evidence_counts_the_window_from_its_open_start_to_its_closed_end(db):
    store_window({}, {}, {}, {})
    evidence = Event.evidence({}, NOON, NOON + timedelta(seconds=2))
    assert (evidence.count, evidence.first, evidence.last) == (
        2,
        NOON + timedelta(seconds=1),
        NOON + timedelta(seconds=2),
    )


def test_evidence_samples_the_newest_events(db):
    store_window(*({"n": n} for n in range(10)))
    evidence = Event.evidence({"source": ["payments"]}, NOON - timedelta(seconds=1), NOON + timedelta(seconds=60))
    assert [sample["payload"]["n"] for sample in evidence.samples] == [9, 8, 7][:SAMPLES]


def test_an_empty_window_has_no_bounds(db):
    evidence = Event.evidence({}, NOON, NOON + timedelta(seconds=1))
    assert (evidence.count, evidence.first, evidence.last, evidence.samples) == (0, None, None, [])


def test_evidence_selects_by_column_and_by_paths_into_the_payload(db):
    store_window({"card": {"kind": "visa"}}, {"card": {"kind": "amex"}}, {"card": "visa"}, {"card": {"kind": None}}, {})
    assert count(event_type=["error", "timeout"]) == 5
    assert count(source=["elsewhere"]) == 0
    assert count(payload__card__kind=["visa"]) == 1
    assert count(payload__card__kind=["visa", "amex"]) == 2
    assert count(payload__card=["visa"]) == 1
    assert count(metadata__region=["eu"]) == 0


def test_none_selects_what_is_missing_or_null(db):
    store_window({"card": {"kind": None}}, {"card": "visa"}, {}, {"card": {"kind": "visa"}})
    assert count(payload__card__kind=[None]) == 3
    assert count(payload__card__kind=[None, "visa"]) == 4


def test_an_object_or_array_is_selected_when_it_is_equal_not_when_it_holds_more(db):
    store_window({"tags": ["a", "b"]}, {"tags": ["a"]}, {"tags": {"a": 1, "b": 2}}, {"tags": {"a": 1}})
    assert count(payload__tags=[["a"]]) == 1
    assert count(payload__tags=[{"b": 2, "a": 1.0}]) == 1


def test_a_path_does_not_look_into_arrays(db):
    store_window({"tags": ["a"]})
    assert count(payload__tags__0=["a"]) == 0


def test_evidence_tells_numbers_from_strings_and_booleans(db):
    store_window({"code": 1}, {"code": "1"}, {"code": True}, {"code": 1.0})
    assert count(payload__code=[1]) == 2
    assert count(payload__code=["1"]) == 1
    assert count(payload__code=[True]) == 1


def test_a_selection_of_no_values_selects_nothing(db):
    store_window({"code": 1})
    assert count(event_type=[]) == 0
    assert count(payload__code=[]) == 0

"""Tests of stored events: duplicates, conflicts, and the evidence of anomalies."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import peewee
import pytest

from models.database import database
from models.event import SAMPLES, Event

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def encoded(**fields: Any) -> bytes:
    """Return an event with these fields, encoded as JSON."""
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


def store_window(*payloads: dict[str, Any]) -> None:
    """Store one event for each payload. The events are one second apart, and the first event is at noon."""
    Event.store(encoded(payload=payload, timestamp=NOON + timedelta(seconds=i)) for i, payload in enumerate(payloads))


def count(**equal: list[Any]) -> int:
    """Return the number of events that have, at each path, one of the given values; `__` in a name stands for a dot."""
    paths = {path.replace("__", "."): values for path, values in equal.items()}
    return Event.evidence(paths, NOON - timedelta(seconds=1), NOON + timedelta(seconds=60)).count


def test_an_event_is_read_back_as_it_was_sent(db: None) -> None:
    event_id, payload = uuid4(), {"amount": 12.5, "tags": ["a", None, {"deep": "é\U0001f600"}], "big": 2**60}
    assert Event.store([encoded(event_id=event_id, payload=payload, timestamp="2026-11-20T13:00:00.123456+01:00")]) == 1
    event = Event.get_by_id(event_id)
    assert event.payload == payload
    assert event.timestamp == NOON + timedelta(microseconds=123456)
    assert event.timestamp.utcoffset() == timedelta(0)


def test_an_event_id_that_is_stored_already_changes_nothing(db: None) -> None:
    event_id = uuid4()
    assert Event.store([encoded(event_id=event_id, payload={"n": 1})]) == 1
    assert Event.store([encoded(event_id=event_id, payload={"n": 2}), encoded()]) == 1
    assert Event.get_by_id(event_id).payload == {"n": 1}


def test_an_event_that_is_twice_in_one_statement_is_stored_once(db: None) -> None:
    twin = encoded()
    assert Event.store([twin, twin]) == 1


def test_an_empty_list_of_events_stores_nothing(db: None) -> None:
    assert Event.store([]) == 0


@pytest.mark.parametrize(
    "invalid",
    [{"event_id": "no-uuid"}, {"timestamp": "yesterday-ish"}, {"payload": {"text": "\x00"}}],
    ids=["id", "time", "nul"],
)
def test_an_event_that_postgresql_rejects_fails_its_whole_statement(db: None, invalid: dict[str, object]) -> None:
    with pytest.raises(peewee.DataError), database.atomic():
        Event.store([encoded(), encoded(**invalid), encoded()])
    assert Event.select().count() == 0


def test_a_missing_value_fails_the_statement(db: None) -> None:
    with pytest.raises(peewee.IntegrityError), database.atomic():
        Event.store([encoded(source=None)])


def test_evidence_counts_the_window_from_its_open_start_to_its_closed_end(db: None) -> None:
    store_window({}, {}, {}, {})
    evidence = Event.evidence({}, NOON, NOON + timedelta(seconds=2))
    assert (evidence.count, evidence.first, evidence.last) == (
        2,
        NOON + timedelta(seconds=1),
        NOON + timedelta(seconds=2),
    )


def test_evidence_samples_the_newest_events(db: None) -> None:
    store_window(*({"n": n} for n in range(10)))
    evidence = Event.evidence({"source": ["payments"]}, NOON - timedelta(seconds=1), NOON + timedelta(seconds=60))
    assert [sample["payload"]["n"] for sample in evidence.samples] == [9, 8, 7][:SAMPLES]


def test_an_empty_window_has_no_bounds(db: None) -> None:
    evidence = Event.evidence({}, NOON, NOON + timedelta(seconds=1))
    assert (evidence.count, evidence.first, evidence.last, evidence.samples) == (0, None, None, [])


def test_evidence_selects_by_column_and_by_paths_into_the_payload(db: None) -> None:
    store_window({"card": {"kind": "visa"}}, {"card": {"kind": "amex"}}, {"card": "visa"}, {"card": {"kind": None}}, {})
    assert count(event_type=["error", "timeout"]) == 5
    assert count(source=["elsewhere"]) == 0
    assert count(payload__card__kind=["visa"]) == 1
    assert count(payload__card__kind=["visa", "amex"]) == 2
    assert count(payload__card=["visa"]) == 1
    assert count(metadata__region=["eu"]) == 0


def test_a_null_value_selects_missing_fields_and_null(db: None) -> None:
    store_window({"card": {"kind": None}}, {"card": "visa"}, {}, {"card": {"kind": "visa"}})
    assert count(payload__card__kind=[None]) == 3
    assert count(payload__card__kind=[None, "visa"]) == 4


def test_an_object_or_array_is_selected_if_it_is_equal_and_not_if_it_contains_more(db: None) -> None:
    store_window({"tags": ["a", "b"]}, {"tags": ["a"]}, {"tags": {"a": 1, "b": 2}}, {"tags": {"a": 1}})
    assert count(payload__tags=[["a"]]) == 1
    assert count(payload__tags=[{"b": 2, "a": 1.0}]) == 1


def test_a_path_does_not_select_inside_arrays(db: None) -> None:
    store_window({"tags": ["a"]})
    assert count(payload__tags__0=["a"]) == 0


def test_evidence_distinguishes_numbers_from_strings_and_booleans(db: None) -> None:
    store_window({"code": 1}, {"code": "1"}, {"code": True}, {"code": 1.0})
    assert count(payload__code=[1]) == 2
    assert count(payload__code=["1"]) == 1
    assert count(payload__code=[True]) == 1


def test_an_empty_list_of_values_selects_nothing(db: None) -> None:
    store_window({"code": 1})
    assert count(event_type=[]) == 0
    assert count(payload__code=[]) == 0


def test_conflicts_have_the_stored_event_and_different_digests(db: None) -> None:
    first, second, third = (str(UUID(int=number)) for number in (1, 2, 3))
    Event.store([encoded(event_id=first), encoded(event_id=second, payload={"text": "line\nbreak"})])
    sent = [encoded(event_id=first), encoded(event_id=second, payload={"n": 2}), encoded(event_id=third)]
    Event.store(sent)
    (conflict,) = Event.conflicts(sent)
    assert (conflict.position, str(conflict.event_id)) == (1, second)
    assert b"\n" not in conflict.stored
    assert msgspec.json.decode(conflict.stored)["payload"] == {"text": "line\nbreak"}
    assert conflict.stored_digest != conflict.digest
    assert [len(digest) for digest in (conflict.stored_digest, conflict.digest)] == [16, 16]


def test_another_arrival_time_is_not_a_conflict(db: None) -> None:
    event_id = uuid4()
    Event.store([encoded(event_id=event_id, timestamp="2026-11-20T13:00:00+01:00")])
    assert Event.conflicts([encoded(event_id=event_id, received_at=NOON + timedelta(seconds=5))]) == []


@pytest.mark.parametrize(
    "change",
    [{"event_type": "other"}, {"source": "other"}, {"timestamp": NOON + timedelta(seconds=1)}, {"metadata": {"a": 1}}],
    ids=lambda change: next(iter(change)),
)
def test_each_field_that_a_client_sends_can_conflict(db: None, change: dict[str, Any]) -> None:
    event_id = uuid4()
    Event.store([encoded(event_id=event_id)])
    assert len(Event.conflicts([encoded(event_id=event_id, **change)])) == 1

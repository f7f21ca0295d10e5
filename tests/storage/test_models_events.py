"""Tests of stored events: duplicates, conflicts, and the evidence of anomalies."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import peewee
import pytest

from models import window_events
from models.database import database
from models.event import MAX_SAMPLE_BYTES, Event
from models.window_events import SAMPLES, Window, WindowEvents, read_windows

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
    return read(Window(paths, NOON - timedelta(seconds=1), NOON + timedelta(seconds=60))).total


def read(window: Window, max_rows: int = 1_000) -> WindowEvents:
    """Return the events of one window."""
    with database.atomic():
        (events,) = read_windows([window], max_rows, 5_000)
    return events


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


def test_a_window_is_counted_from_its_open_start_to_its_closed_end(db: None) -> None:
    store_window({}, {}, {}, {})
    found = read(Window({}, NOON, NOON + timedelta(seconds=2)))
    assert (found.total, found.is_lower_bound) == (2, False)
    assert (found.first, found.last) == (NOON + timedelta(seconds=1), NOON + timedelta(seconds=2))


def test_the_newest_events_of_a_window_are_its_samples(db: None) -> None:
    store_window(*({"n": n} for n in range(10)))
    found = read(Window({"source": ["payments"]}, NOON - timedelta(seconds=1), NOON + timedelta(seconds=60)))
    summaries = Event.summaries(found.newest)
    assert [summaries[event_id]["payload"]["n"] for event_id in found.newest] == [9, 8, 7][:SAMPLES]


def test_a_large_window_is_counted_up_to_a_limit(db: None) -> None:
    store_window(*({} for _ in range(10)))
    found = read(Window({}, NOON - timedelta(seconds=1), NOON + timedelta(seconds=60)), max_rows=4)
    assert found[:4] == (4, True, None, NOON + timedelta(seconds=9))


def test_an_empty_window_has_no_bounds(db: None) -> None:
    assert read(Window({}, NOON, NOON + timedelta(seconds=1))) == (0, False, None, None, [])


def test_the_windows_of_several_groups_are_read_with_one_query(db: None) -> None:
    store_window({"card": "visa"}, {"card": "amex"}, {"card": "visa"}, {})
    until = NOON + timedelta(seconds=60)
    windows = [
        Window({"event_type": ["error"], "payload.card": [card]}, NOON - timedelta(seconds=1), until)
        for card in ("visa", "amex", None, "other")
    ]
    with database.atomic():
        assert [found.total for found in read_windows(windows, 100, 5_000)] == [2, 1, 1, 0]


def test_windows_that_cannot_be_read_in_time_raise_an_error(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "SELECT 1, now(), now(), '{}' FROM pg_sleep(2)"
    monkeypatch.setattr(window_events, "window_query", lambda *_: (slow, []))
    with pytest.raises(peewee.OperationalError, match="statement timeout"), database.atomic():
        read_windows([Window({}, NOON, NOON)], 1, 50)


def test_reading_windows_leaves_no_settings_behind(db: None) -> None:
    with database.atomic():
        read_windows([Window({}, NOON, NOON)], 1, 5_000)
        shown = [database.execute_sql(f"SHOW {name}").fetchone()[0] for name in ("statement_timeout", "enable_sort")]
    assert shown == ["30s", "on"]


def test_a_large_payload_is_cut_in_a_summary_and_the_cut_is_visible(db: None) -> None:
    event_id, payload = uuid4(), {"n": 1, "text": "x" * MAX_SAMPLE_BYTES, "card": "visa"}
    Event.store([encoded(event_id=event_id, payload=payload)])
    summary = Event.summaries([event_id])[event_id]
    assert summary["payload"] == {"n": 1, "card": "visa"}
    assert summary["payload_cut"] == {"bytes": len(msgspec.json.encode(payload)), "omitted_fields": 1}
    assert len(msgspec.json.encode(summary["payload"])) <= MAX_SAMPLE_BYTES


def test_a_payload_of_the_maximum_size_is_not_cut(db: None) -> None:
    event_id, payload = uuid4(), {"n": "x" * (MAX_SAMPLE_BYTES - len('{"n":""}'))}
    Event.store([encoded(event_id=event_id, payload=payload)])
    summary = Event.summaries([event_id])[event_id]
    assert summary["payload"] == payload
    assert "payload_cut" not in summary


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

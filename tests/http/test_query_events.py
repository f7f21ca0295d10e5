"""Stored events, listed and read one by one."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import UUID, uuid4

import msgspec
import pytest
from falcon.testing import Result, TestClient

from models.event import Event

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def store(n: int, second: int | None = None, **fields) -> str:
    """Store event number n, at n seconds past noon or another second; returns its id."""
    at = NOON + timedelta(seconds=n if second is None else second)
    event = {
        "event_id": UUID(int=n),
        "event_type": "login",
        "source": "web",
        "timestamp": at,
        "payload": {"n": n},
        "metadata": {},
        "received_at": at,
    }
    Event.store([msgspec.json.encode(event | fields)])
    return str(UUID(int=n))


def get(client: TestClient, **params) -> Result:
    return client.simulate_get("/api/v1/events", params={name.rstrip("_"): value for name, value in params.items()})


def numbers(client: TestClient, **params) -> list[int]:
    answer = get(client, **params)
    assert answer.status_code == 200, answer.text
    return [event["payload"]["n"] for event in answer.json["data"]]


@pytest.fixture
def ten(client: TestClient, db) -> TestClient:
    """Ten events, a second apart; the even ones are errors, those from 5 on come from payments."""
    for n in range(10):
        store(n, event_type="error" if n % 2 == 0 else "login", source="payments" if n >= 5 else "web")
    return client


def test_an_event_is_shown_whole_with_times_in_utc(client, db):
    event_id = store(1, timestamp="2026-11-20T13:00:00.25+01:00", payload={"a": [1, None]}, metadata={"b": "ü"})
    expected = {
        "event_id": event_id,
        "event_type": "login",
        "source": "web",
        "timestamp": "2026-11-20T12:00:00.250000Z",
        "payload": {"a": [1, None]},
        "metadata": {"b": "ü"},
        "received_at": "2026-11-20T12:00:01Z",
    }
    assert client.simulate_get(f"/api/v1/events/{event_id}").json == expected
    assert get(client).json["data"] == [expected]


def test_an_id_is_found_in_upper_case_too(client, db):
    event_id = str(uuid4())
    store(1, event_id=event_id)
    assert client.simulate_get(f"/api/v1/events/{event_id.upper()}").json["event_id"] == event_id


def test_an_unknown_id_is_not_found(client):
    answer = client.simulate_get(f"/api/v1/events/{uuid4()}")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "event_id",
    ["7", "no-uuid", "00000000-0000-0000-0000-00000000000g", "{00000000-0000-7000-8000-000000000001}", "%00"],
)
def test_what_is_no_uuid_is_refused_by_name(client, event_id):
    answer = client.simulate_get(f"/api/v1/events/{event_id}")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == ["event_id"]


def test_the_newest_come_first_and_equal_times_by_id(client, db):
    for n, second in [(1, 0), (2, 5), (3, 0), (4, 9)]:
        store(n, second)
    assert numbers(client) == [4, 2, 3, 1]


def test_an_empty_list_has_no_next_page(client):
    assert get(client).json == {
        "data": [],
        "pagination": {"limit": 50, "offset": 0, "count": 0, "next_cursor": None},
    }


def test_filters_narrow_the_list_each_and_together(ten):
    assert numbers(ten, event_type="error") == [8, 6, 4, 2, 0]
    assert numbers(ten, source="payments") == [9, 8, 7, 6, 5]
    assert numbers(ten, event_type="error", source="payments") == [8, 6]
    assert numbers(ten, event_type="nothing of the kind") == []


def test_both_ends_of_a_period_belong_to_it(ten):
    assert numbers(ten, from_="2026-11-20T12:00:07Z") == [9, 8, 7]
    assert numbers(ten, to="2026-11-20T12:00:02Z") == [2, 1, 0]
    assert numbers(ten, from_="2026-11-20T12:00:04Z", to="2026-11-20T12:00:04Z") == [4]
    assert numbers(ten, from_="2026-11-20T13:00:04+01:00", to="2026-11-20T12:00:05Z", event_type="error") == [4]


def test_the_count_is_that_of_the_page(ten):
    page = get(ten, limit=3, offset=1).json
    assert [event["payload"]["n"] for event in page["data"]] == [8, 7, 6]
    assert page["pagination"] | {"next_cursor": None} == {"limit": 3, "offset": 1, "count": 3, "next_cursor": None}
    assert get(ten, offset=9).json["pagination"]["count"] == 1


@pytest.mark.parametrize(("asked", "given"), [("0", 1), ("-5", 1), ("500", 500), ("501", 500), ("9" * 30, 500)])
def test_a_limit_out_of_range_is_clamped(client, asked, given):
    assert get(client, limit=asked).json["pagination"]["limit"] == given


def test_a_limit_cuts_the_list_and_its_end_has_no_cursor(ten):
    assert get(ten, limit=9).json["pagination"]["next_cursor"] is not None
    assert get(ten, limit=10).json["pagination"]["next_cursor"] is None


def test_a_parameter_that_is_not_known_is_ignored(ten):
    assert len(numbers(ten, colour="red")) == 10


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": "ten"}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"limit": "1_0"}, "limit"),
        ({"limit": "\u0661"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"limit": ["1", "2"]}, "limit"),
        ({"offset": "-1"}, "offset"),
        ({"offset": "x"}, "offset"),
        ({"offset": "9" * 30}, "offset"),
        ({"from_": "yesterday"}, "from"),
        ({"from_": "2026-11-20T12:00:00"}, "from"),
        ({"from_": "0001-01-01T00:00:00+14:00"}, "from"),
        ({"to": "2026-13-01T00:00:00Z"}, "to"),
        ({"to": ""}, "to"),
        ({"from_": "2026-11-20T12:00:01Z", "to": "2026-11-20T12:00:00Z"}, "from"),
        ({"event_type": ""}, "event_type"),
        ({"event_type": "a\x00b"}, "event_type"),
        ({"source": "\x00"}, "source"),
        ({"event_type": ["a", "b"]}, "event_type"),
    ],
    ids=str,
)
def test_a_bad_parameter_is_refused_by_name(client, params, field):
    answer = client.simulate_get(
        "/api/v1/events",
        params={name.rstrip("_"): value for name, value in params.items()},
        params_csv=False,
    )
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == [field]


@pytest.mark.parametrize("text", ["x", "!!!", "bm90aGluZw", "W10", "é", "WyIyMDI2LTExLTIwVDEyOjAwOjAwIiwgInh5eiJd", ""])
def test_a_cursor_we_never_gave_is_refused_by_name(client, text):
    answer = client.simulate_get("/api/v1/events", query_string=f"cursor={quote(text)}")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == ["cursor"]


def test_several_bad_parameters_are_named_at_once(client):
    answer = get(client, limit="many", offset="-1", from_="then")
    assert {error["field"] for error in answer.json["errors"]} == {"limit", "offset", "from"}

"""Tests of queries for stored events over HTTP: the list, and a single event."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import msgspec
import pytest
from falcon.testing import Result, TestClient

from models.event import Event

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def store(n: int, second: int | None = None, **fields: Any) -> str:
    """Store event number `n` with a timestamp `second` seconds after noon, by default `n`; return the event's id."""
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


def get(client: TestClient, **params: Any) -> Result:
    return client.simulate_get("/api/v1/events", params={name.rstrip("_"): value for name, value in params.items()})


def numbers(client: TestClient, **params: Any) -> list[int]:
    answer = get(client, **params)
    assert answer.status_code == 200, answer.text
    return [event["payload"]["n"] for event in answer.json["data"]]


@pytest.fixture
def ten(client: TestClient, db: None) -> TestClient:
    """Store ten events, one per second, and return a client.

    Events with even numbers are errors; events 5 to 9 have the source `payments`.
    """
    for n in range(10):
        store(n, event_type="error" if n % 2 == 0 else "login", source="payments" if n >= 5 else "web")
    return client


def test_an_event_is_returned_completely_with_times_in_utc(client: TestClient, db: None) -> None:
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


def test_an_id_in_upper_case_is_found(client: TestClient, db: None) -> None:
    event_id = str(uuid4())
    store(1, event_id=event_id)
    assert client.simulate_get(f"/api/v1/events/{event_id.upper()}").json["event_id"] == event_id


def test_an_unknown_event_is_not_found(client: TestClient) -> None:
    answer = client.simulate_get(f"/api/v1/events/{uuid4()}")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "event_id",
    ["7", "no-uuid", "00000000-0000-0000-0000-00000000000g", "{00000000-0000-7000-8000-000000000001}", "%00"],
)
def test_an_invalid_id_is_named_in_the_error(client: TestClient, event_id: str) -> None:
    answer = client.simulate_get(f"/api/v1/events/{event_id}")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == ["event_id"]


def test_events_are_listed_newest_first_and_by_id_at_equal_times(client: TestClient, db: None) -> None:
    for n, second in [(1, 0), (2, 5), (3, 0), (4, 9)]:
        store(n, second)
    assert numbers(client) == [4, 2, 3, 1]


def test_an_empty_list_has_no_next_page(client: TestClient) -> None:
    assert get(client).json == {
        "data": [],
        "pagination": {"limit": 50, "offset": 0, "count": 0, "next_cursor": None},
    }


def test_filters_apply_alone_and_in_combination(ten: TestClient) -> None:
    assert numbers(ten, event_type="error") == [8, 6, 4, 2, 0]
    assert numbers(ten, source="payments") == [9, 8, 7, 6, 5]
    assert numbers(ten, event_type="error", source="payments") == [8, 6]
    assert numbers(ten, event_type="unknown") == []


def test_from_and_to_are_inclusive(ten: TestClient) -> None:
    assert numbers(ten, from_="2026-11-20T12:00:07Z") == [9, 8, 7]
    assert numbers(ten, to="2026-11-20T12:00:02Z") == [2, 1, 0]
    assert numbers(ten, from_="2026-11-20T12:00:04Z", to="2026-11-20T12:00:04Z") == [4]
    assert numbers(ten, from_="2026-11-20T13:00:04+01:00", to="2026-11-20T12:00:05Z", event_type="error") == [4]


def test_events_of_wrong_clocks_do_not_hide_fresh_events_unless_the_query_has_to(client: TestClient, db: None) -> None:
    def ahead(seconds: int) -> str:
        return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()

    for n, timestamp in enumerate(["9999-01-01T00:00:00Z", ahead(300), ahead(50), ahead(-1)]):
        store(n, timestamp=timestamp)
    assert numbers(client) == [2, 3]
    assert numbers(client, limit=1) == [2]
    assert numbers(client, from_=ahead(200)) == []
    assert numbers(client, to=ahead(400)) == [1, 2, 3]
    assert numbers(client, to="9999-12-31T00:00:00Z") == [0, 1, 2, 3]


def test_count_is_the_number_of_rows_in_the_page(ten: TestClient) -> None:
    page = get(ten, limit=3, offset=1).json
    assert [event["payload"]["n"] for event in page["data"]] == [8, 7, 6]
    assert page["pagination"] | {"next_cursor": None} == {"limit": 3, "offset": 1, "count": 3, "next_cursor": None}
    assert get(ten, offset=9).json["pagination"]["count"] == 1


@pytest.mark.parametrize(("asked", "given"), [("0", 1), ("-5", 1), ("500", 500), ("501", 500), ("9" * 30, 500)])
def test_a_limit_out_of_range_is_clamped(client: TestClient, asked: str, given: int) -> None:
    assert get(client, limit=asked).json["pagination"]["limit"] == given


def test_the_last_page_has_no_cursor(ten: TestClient) -> None:
    assert get(ten, limit=9).json["pagination"]["next_cursor"] is not None
    assert get(ten, limit=10).json["pagination"]["next_cursor"] is None


def test_an_unknown_parameter_is_ignored(ten: TestClient) -> None:
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
def test_an_invalid_parameter_is_named_in_the_error(client: TestClient, params: dict[str, Any], field: str) -> None:
    answer = client.simulate_get(
        "/api/v1/events",
        params={name.rstrip("_"): value for name, value in params.items()},
        params_csv=False,
    )
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == [field]


@pytest.mark.parametrize("text", ["x", "!!!", "bm90aGluZw", "W10", "é", "WyIyMDI2LTExLTIwVDEyOjAwOjAwIiwgInh5eiJd", ""])
def test_an_invalid_cursor_is_named_in_the_error(client: TestClient, text: str) -> None:
    answer = client.simulate_get("/api/v1/events", query_string=f"cursor={quote(text)}")
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == ["cursor"]


def test_all_invalid_parameters_are_named_together(client: TestClient) -> None:
    answer = get(client, limit="many", offset="-1", from_="then")
    assert {error["field"] for error in answer.json["errors"]} == {"limit", "offset", "from"}

"""Tests of lists that are read page by page with cursors."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from falcon.testing import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.resources import events, paging
from models.event import Event

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def store(seconds: list[int], text: str = "", source: str = "web") -> None:
    """Replace all stored events. Each of `seconds` is the time of one new event, in seconds after noon."""
    Event.delete().execute()
    Event.store(
        msgspec.json.encode(
            {
                "event_id": UUID(int=number),
                "event_type": "login",
                "source": source,
                "timestamp": NOON + timedelta(seconds=second, microseconds=second),
                "payload": {"text": text},
                "metadata": {},
                "received_at": NOON,
            }
        )
        for number, second in enumerate(seconds)
    )


def walk(client: TestClient, **params: Any) -> list[list[str]]:
    """Read all pages of the list of events, and return the ids on each page."""
    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.simulate_get("/api/v1/events", params=params | cursor).json
        pages.append([event["event_id"] for event in page["data"]])
        if page["pagination"]["next_cursor"] is None:
            return pages
        cursor = {"cursor": page["pagination"]["next_cursor"]}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.lists(st.integers(0, 5), max_size=15), limit=st.integers(1, 6))
def test_the_pages_together_contain_each_event_once_in_order(
    client: TestClient, db: None, seconds: list[int], limit: int
) -> None:
    store(seconds)
    pages = walk(client, limit=limit)
    (whole,) = walk(client, limit=500)
    assert [event_id for page in pages for event_id in page] == whole
    assert all(len(page) == limit for page in pages[:-1])


def test_events_that_arrive_between_two_pages_do_not_shift_the_pages(client: TestClient, db: None) -> None:
    store([0, 1, 2, 3])
    page = client.simulate_get("/api/v1/events", params={"limit": 2}).json
    store([0, 1, 2, 3, 9, 9])
    rest = client.simulate_get("/api/v1/events", params={"cursor": page["pagination"]["next_cursor"]}).json
    assert [event["event_id"] for event in page["data"] + rest["data"]] == [str(UUID(int=n)) for n in (3, 2, 1, 0)]


def test_a_cursor_can_be_combined_with_filters(client: TestClient, db: None) -> None:
    store([0, 1, 2, 3, 4])
    pages = walk(client, limit=2, source="web", to="2026-11-20T12:00:03Z")
    assert [event_id for page in pages for event_id in page] == [str(UUID(int=n)) for n in (2, 1, 0)]


def test_a_page_ends_before_its_rows_exceed_four_mebibytes(client: TestClient, db: None) -> None:
    store([0] * 150, text="ž" * 30_000)
    pages = walk(client, limit=500)
    (first, *_) = sizes = [len(page) for page in pages]
    assert sum(sizes) == 150
    assert len({event_id for page in pages for event_id in page}) == 150
    assert len(sizes) == 3
    response = client.simulate_get("/api/v1/events", params={"limit": 500})
    assert 3_900_000 < len(response.content) <= paging.MAX_PAGE_BYTES
    assert response.json["pagination"]["count"] == first


def test_the_limit_counts_the_bytes_of_the_response(
    client: TestClient, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control character in the source of an event has one byte in PostgreSQL, but six in the response."""
    monkeypatch.setattr(paging, "MAX_PAGE_BYTES", 20_000)
    store([0] * 60, source="\x01" * 255)
    response = client.simulate_get("/api/v1/events", params={"limit": 500})
    assert 15_000 < len(response.content) <= 20_000
    assert [len(page) for page in walk(client, limit=500)] == [11] * 5 + [5]


def test_postgresql_returns_only_the_rows_of_the_page(client: TestClient, db: None) -> None:
    store([0] * 150, text="x" * 60_000)
    query = events.EventQuery().load({"limit": "150"})
    selected = paging.matching(query, events.NEWEST_FIRST, events.FILTERS).limit(150)
    rows = list(paging.first_bytes(selected, events.NEWEST_FIRST, 1_000_000))
    assert len(rows) == 16
    assert {row.page_rows for row in rows} == {150}


def test_a_page_has_at_least_one_row(client: TestClient, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_PAGE_BYTES", 2_000)
    store([0, 1, 2], text="x" * 3_000)
    assert [len(page) for page in walk(client, limit=2)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("moment", "status"),
    [("2026-01-01T00:00:00+23:59", 200), ("9999-12-31T23:59:59-10:00", 400), ("0001-01-01T00:00:00Z", 400)],
)
def test_the_time_in_a_forged_cursor_is_validated(client: TestClient, db: None, moment: str, status: int) -> None:
    key = json.dumps([moment, "00000000-0000-7000-8000-000000000001"]).encode()
    answer = client.simulate_get("/api/v1/events", params={"cursor": base64.urlsafe_b64encode(key).decode()})
    assert answer.status_code == status

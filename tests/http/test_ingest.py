"""Tests of valid ingest requests."""

import gzip
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from falcon.testing import TestClient
from support.http_events import Queued, event, lines

from actors.pipeline.records import request_id_of

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
ID = "0192f3a4-1111-7222-8333-00000000000a"


def test_an_accepted_event_keeps_its_id_and_is_queued(ingest_client: TestClient, queued: Queued) -> None:
    response = ingest_client.simulate_post("/api/v1/events", json=event(event_id=ID.upper()))

    assert response.status_code == 202
    assert response.json == {"status": "accepted", "event_id": ID}
    (stored,) = queued()
    received = datetime.fromisoformat(stored.pop("received_at"))
    assert stored == event(event_id=ID, metadata={})
    assert abs(datetime.now(UTC) - received) < timedelta(minutes=1)


def test_an_event_without_an_id_gets_a_version_7_uuid(ingest_client: TestClient, queued: Queued) -> None:
    response = ingest_client.simulate_post("/api/v1/events", json=event())

    assert UUID(response.json["event_id"]).version == 7
    assert [stored["event_id"] for stored in queued()] == [response.json["event_id"]]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, msgspec.json.encode([event(n=1), event(n=2)])),
        (JSON, msgspec.json.encode({"events": [event(n=1), event(n=2)]})),
        (NDJSON, lines(event(n=1), event(n=2))),
        (NDJSON, b"\n\r\n" + lines(event(n=1)) + b"\r\n\n" + lines(event(n=2)) + b"\n"),
        ({"Content-Type": "application/json; charset=utf-8"}, msgspec.json.encode([event(n=1), event(n=2)])),
        ({"Content-Type": "Application/X-NDJSON;charset=UTF-8"}, lines(event(n=1), event(n=2))),
        (JSON | {"Content-Encoding": "gzip"}, gzip.compress(msgspec.json.encode([event(n=1), event(n=2)]))),
        (
            JSON | {"Content-Encoding": "GZip"},
            gzip.compress(b"[" + lines(event(n=1))) + gzip.compress(b"," + lines(event(n=2)) + b"]"),
        ),
        (JSON | {"Content-Encoding": "identity"}, msgspec.json.encode([event(n=1), event(n=2)])),
    ],
    ids=["array", "envelope", "ndjson", "empty lines", "charset", "case", "gzip", "gzip members", "identity"],
)
def test_a_batch_is_accepted_in_input_order(
    ingest_client: TestClient, queued: Queued, headers: dict[str, str], body: bytes
) -> None:
    response = ingest_client.simulate_post("/api/v1/events/batch", headers=headers, body=body)

    assert response.status_code == 202, response.text
    stored = queued()
    assert response.json == {"status": "accepted", "count": 2, "event_ids": [event["event_id"] for event in stored]}
    assert [event["payload"] for event in stored] == [{"n": 1}, {"n": 2}]


def test_a_full_batch_of_1000_events_is_accepted(ingest_client: TestClient, queued: Queued) -> None:
    response = ingest_client.simulate_post("/api/v1/events/batch", json=[event()] * 1_000)

    assert response.json["count"] == len(queued()) == 1_000


def test_an_idempotency_key_gives_a_retried_request_the_same_ids(ingest_client: TestClient) -> None:
    body = [event(n=1), event(event_id=ID), event(n=2)]
    first, again, other = (
        ingest_client.simulate_post("/api/v1/events/batch", json=body, headers={"Idempotency-Key": key}).json[
            "event_ids"
        ]
        for key in ("one", "one", "two")
    )

    assert first == again
    assert first[1] == other[1] == ID
    assert len({*first, *other}) == 5
    assert UUID(first[0]).version == 5


def test_the_same_idempotency_key_with_another_event_loses_no_event(ingest_client: TestClient, queued: Queued) -> None:
    first, second = (
        ingest_client.simulate_post("/api/v1/events", json=event(n=n), headers={"Idempotency-Key": "1"}).json[
            "event_id"
        ]
        for n in (1, 2)
    )

    assert first != second
    assert [(stored["event_id"], stored["payload"]) for stored in queued()] == [(first, {"n": 1}), (second, {"n": 2})]


def test_the_same_event_in_another_notation_gets_the_same_id(ingest_client: TestClient) -> None:
    """The order of keys, the white space and the time zone may differ between two attempts to send an event."""
    written = (
        b'{"event_type":"t","source":"s","timestamp":"2026-11-20T12:00:00Z","payload":{"a":1,"b":{"c":2,"d":3}}}',
        b'{"source":"s", "event_type":"t","payload":{"b":{"d":3,"c":2},"a":1},"timestamp":"2026-11-20T13:00:00+01:00"}',
    )
    ids = {
        ingest_client.simulate_post("/api/v1/events", body=body, headers=JSON | {"Idempotency-Key": "1"}).json[
            "event_id"
        ]
        for body in written
    }

    assert len(ids) == 1


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "späť"])
def test_an_invalid_idempotency_key_is_rejected(ingest_client: TestClient, queued: Queued, key: str) -> None:
    response = ingest_client.simulate_post("/api/v1/events", json=event(), headers={"Idempotency-Key": key})

    assert (response.status_code, response.json["errors"][0]["field"]) == (400, "Idempotency-Key")
    assert queued() == []


def test_a_request_id_is_queued_with_the_event_and_returned(ingest_client: TestClient, redis_client: Any) -> None:
    response = ingest_client.simulate_post("/api/v1/events", json=event(), headers={"X-Request-ID": "order-7.a_B"})

    assert response.headers["X-Request-ID"] == "order-7.a_B"
    (bundle,) = redis_client.hvals("eventpulse:persist.msgs")
    assert request_id_of(bundle.split(b"\n")[1]) == "order-7.a_B"


@pytest.mark.parametrize("given", [None, "", "two words", 'quo"te', "x" * 129, "line\nbreak"])
def test_an_invalid_request_id_is_replaced(ingest_client: TestClient, given: str | None) -> None:
    headers = {} if given is None else {"X-Request-ID": given}
    response = ingest_client.simulate_post("/api/v1/events", json=event(), headers=headers)

    assert response.status_code == 202
    assert response.headers["X-Request-ID"] not in ("", given)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-11-20T12:00:00+01:00", "2026-11-20T11:00:00Z"),
        ("2026-11-20T12:00:00-0130", "2026-11-20T13:30:00Z"),
        ("2026-11-20 12:00:00.5z", "2026-11-20T12:00:00.500000Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("9999-12-31T23:59:59+00:01", "9999-12-31T23:58:59Z"),
    ],
)
def test_a_timestamp_is_converted_to_utc(ingest_client: TestClient, queued: Queued, sent: str, kept: str) -> None:
    assert ingest_client.simulate_post("/api/v1/events", json=event(timestamp=sent)).status_code == 202
    assert queued()[0]["timestamp"] == kept


def test_json_that_can_be_stored_is_queued_unchanged(ingest_client: TestClient, queued: Queued) -> None:
    payload: dict[str, Any] = {"": [None, True, 1.5, -0.0, 10**40, "ž 𝄞 \\u0000 \n", {"deep": {}}], "a.b": "[" * 100}

    assert ingest_client.simulate_post("/api/v1/events", json=event() | {"payload": payload}).status_code == 202
    assert queued()[0]["payload"] == payload


@pytest.mark.parametrize("field", ["payload", "metadata"])
def test_an_object_of_depth_32_is_accepted(ingest_client: TestClient, queued: Queued, field: str) -> None:
    deep: Any = {}
    for _ in range(31):
        deep = {"in": deep}

    assert ingest_client.simulate_post("/api/v1/events", json=event() | {field: deep}).status_code == 202
    assert queued()[0][field] == deep

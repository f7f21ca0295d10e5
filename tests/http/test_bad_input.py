"""Tests of invalid ingest requests: the status and the invalid field in the response, and an empty queue."""

import gzip

import msgspec
import pytest
from falcon.testing import TestClient
from support.http_events import Queued, event, lines

JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}
GZIP = JSON | {"Content-Encoding": "gzip"}
VALID = msgspec.json.encode(event())


def raw(field: str, value: str) -> bytes:
    """Return the JSON of a valid event in which the JSON text `value` replaces the value of `field`."""
    return msgspec.json.encode(event() | {field: msgspec.Raw(value.encode())})


def nested(depth: int, inside: str = "0") -> str:
    return '{"a":' * depth + inside + "}" * depth


EVENTS = {
    "empty": (b"", "body"),
    "blank": (b" \n ", "body"),
    "malformed": (b'{"event_type": "a",}', "body"),
    "truncated": (VALID[:-1], "body"),
    "two values": (VALID + VALID, "body"),
    "BOM": (b"\xef\xbb\xbf" + VALID, "body"),
    "UTF-16": (VALID.decode().encode("utf-16"), "body"),
    "not UTF-8": (raw("source", '"shop"').replace(b"shop", b"sh\xffp"), "body"),
    "UTF-8 of a surrogate": (raw("source", '"shop"').replace(b"shop", b"\xed\xa0\x80"), "body"),
    "raw control character": (raw("source", '"a\x01b"'), "body"),
    "an array": (b"[" + VALID + b"]", "event"),
    "a number": (b"1", "event"),
    "a string": (b'"event"', "event"),
    "null": (b"null", "event"),
    "no type": (b'{"source":"a","timestamp":"2026-01-01T00:00:00Z"}', "event_type"),
    "no source": (b'{"event_type":"a","timestamp":"2026-01-01T00:00:00Z"}', "source"),
    "no timestamp": (b'{"event_type":"a","source":"b"}', "timestamp"),
    "type null": (raw("event_type", "null"), "event_type"),
    "type empty": (raw("event_type", '""'), "event_type"),
    "type too long": (raw("event_type", f'"{"x" * 256}"'), "event_type"),
    "type a number": (raw("event_type", "1"), "event_type"),
    "type true": (raw("event_type", "true"), "event_type"),
    "source an array": (raw("source", '["a"]'), "source"),
    "source with NUL": (raw("source", r'"a\u0000b"'), "source"),
    "source with a lone surrogate": (raw("source", r'"\ud83d"'), "source"),
    "source with surrogates in the wrong order": (raw("source", r'"\ude00\ud83d"'), "source"),
    "id not a UUID": (raw("event_id", '"42"'), "event_id"),
    "id a number": (raw("event_id", "42"), "event_id"),
    "id empty": (raw("event_id", '""'), "event_id"),
    "id in braces": (raw("event_id", '"{0192f3a4-1111-7222-8333-00000000000a}"'), "event_id"),
    "id as a URN": (raw("event_id", '"urn:uuid:0192f3a4-1111-7222-8333-00000000000a"'), "event_id"),
    "time without zone": (raw("timestamp", '"2026-01-01T00:00:00"'), "timestamp"),
    "time a number": (raw("timestamp", "1767225600"), "timestamp"),
    "time null": (raw("timestamp", "null"), "timestamp"),
    "time a date": (raw("timestamp", '"2026-01-01"'), "timestamp"),
    "time words": (raw("timestamp", '"yesterday"'), "timestamp"),
    "30th of February": (raw("timestamp", '"2026-02-30T00:00:00Z"'), "timestamp"),
    "hour 24": (raw("timestamp", '"2026-01-01T24:00:00Z"'), "timestamp"),
    "leap second": (raw("timestamp", '"2016-12-31T23:59:60Z"'), "timestamp"),
    "offset too large": (raw("timestamp", '"2026-01-01T00:00:00+24:00"'), "timestamp"),
    "year 0": (raw("timestamp", '"0000-01-01T00:00:00Z"'), "timestamp"),
    "year 1": (raw("timestamp", '"0001-01-01T00:00:00+01:00"'), "timestamp"),
    "1969 in UTC": (raw("timestamp", '"1970-01-01T00:30:00+01:00"'), "timestamp"),
    "year 10000": (raw("timestamp", '"10000-01-01T00:00:00Z"'), "timestamp"),
    "year 10000 in UTC": (raw("timestamp", '"9999-12-31T23:59:59-01:00"'), "timestamp"),
    "payload null": (raw("payload", "null"), "payload"),
    "payload an array": (raw("payload", "[]"), "payload"),
    "payload a string": (raw("payload", '"{}"'), "payload"),
    "metadata a number": (raw("metadata", "1.5"), "metadata"),
    "payload with NUL": (raw("payload", r'{"a":[{"b":"\u0000"}]}'), "payload.a.0.b"),
    "payload with NUL in a key": (raw("payload", r'{"a\u0000":1}'), r"payload.a\x00"),
    "payload with a lone surrogate": (raw("payload", r'{"a":"\ud800"}'), "payload.a"),
    "payload with a lone surrogate in a key": (raw("payload", r'{"\udfff":1}'), r"payload.\udfff"),
    "NaN": (raw("payload", '{"a":NaN}'), "payload.a"),
    "Infinity": (raw("payload", '{"a":-Infinity}'), "payload.a"),
    "float beyond range": (raw("payload", '{"a":1e400}'), "payload.a"),
    "integer beyond range": (raw("payload", f'{{"a":{"9" * 4_301}}}'), "payload.a"),
    "depth 33": (raw("payload", nested(33)), "payload" + ".a" * 32),
    "depth 33 in arrays": (raw("metadata", '{"a":' + "[" * 32 + "]" * 32 + "}"), "metadata.a" + ".0" * 31),
    "depth 100,000": (raw("payload", nested(100_000)), "payload" + ".a" * 32),
    "100,000 deep and truncated": (raw("payload", nested(100_000))[:-9], "body"),
    "100,000 arrays never closed": (b"[" * 100_000, "body"),
    "unknown field": (raw("paylod", "{}"), "paylod"),
    "field of the server": (raw("received_at", '"2026-01-01T00:00:00Z"'), "received_at"),
    "unknown field of any name": (raw("a\x00\n", "1"), r"a\x00\x0a"),
}


@pytest.mark.parametrize(("body", "field"), EVENTS.values(), ids=EVENTS)
def test_an_invalid_event_is_rejected_and_its_field_is_named(
    ingest_client: TestClient, queued: Queued, body: bytes, field: str
) -> None:
    response = ingest_client.simulate_post("/api/v1/events", headers=JSON, body=body)

    assert response.status_code == 400, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert [error["field"] for error in response.json["errors"]] == [field]
    assert all(error["message"] and "index" not in error for error in response.json["errors"])
    assert queued() == []


@pytest.mark.parametrize(
    ("body", "field"),
    [case for case in EVENTS.values() if case[1] != "body" and case[0].startswith(b"{")],
    ids=[name for name, case in EVENTS.items() if case[1] != "body" and case[0].startswith(b"{")],
)
@pytest.mark.parametrize("form", ["array", "envelope", "ndjson"])
def test_one_invalid_event_rejects_the_whole_batch_and_its_index_is_named(
    ingest_client: TestClient, queued: Queued, body: bytes, field: str, form: str
) -> None:
    texts = {
        "array": b"[%b,%b]" % (VALID, body),
        "envelope": b'{"events":[%b,%b]}' % (VALID, body),
        "ndjson": VALID + b"\n\n" + body,
    }
    headers = NDJSON if form == "ndjson" else JSON
    response = ingest_client.simulate_post("/api/v1/events/batch", headers=headers, body=texts[form])

    assert response.status_code == 400, response.text
    assert [(error["index"], error["field"]) for error in response.json["errors"]] == [(1, field)]
    assert queued() == []


BATCHES = {
    "empty array": (JSON, b"[]", 400, "events"),
    "empty envelope": (JSON, b'{"events":[]}', 400, "events"),
    "no lines": (NDJSON, b"\n \n", 400, "events"),
    "empty body": (JSON, b"", 400, "body"),
    "malformed": (JSON, b"[" + VALID, 400, "body"),
    "a string": (JSON, b'"events"', 400, "events"),
    "one event": (JSON, VALID, 400, "event_type"),
    "envelope without events": (JSON, b"{}", 400, "events"),
    "envelope with a null": (JSON, b'{"events":null}', 400, "events"),
    "envelope with an unknown field": (JSON, b'{"events":[],"mode":1}', 400, "mode"),
    "a number as an event": (JSON, b"[1]", 400, "event"),
    "a line that is an array": (NDJSON, b"[%b]" % VALID, 400, "event"),
    "two events on a line": (NDJSON, VALID + VALID, 400, "event"),
    "an event over two lines": (NDJSON, VALID.replace(b",", b",\n", 1), 400, "event"),
    "1,001 events": (JSON, msgspec.json.encode([event()] * 1_001), 413, "events"),
    "1,001 lines": (NDJSON, lines(*[event()] * 1_001), 413, "events"),
    "1,001 bad events": (JSON, msgspec.json.encode([1] * 1_001), 413, "events"),
    "a large event": (JSON, msgspec.json.encode([event(), event(text="x" * 65_536)]), 413, "event"),
    "a large body": (JSON, b" " * (5 * 1024 * 1024) + VALID, 413, "body"),
    "a large gzip body": (GZIP, gzip.compress(b" " * (5 * 1024 * 1024) + VALID), 413, "body"),
    "not gzip": (GZIP, VALID, 400, "body"),
    "truncated gzip": (GZIP, gzip.compress(VALID)[:-1], 400, "body"),
    "gzip with a wrong checksum": (GZIP, gzip.compress(VALID)[:-8] + b"\0" * 8, 400, "body"),
    "gzip with trailing data": (GZIP, gzip.compress(VALID) + b"more", 400, "body"),
    "gzip of nothing": (GZIP, gzip.compress(b""), 400, "body"),
    "nothing as gzip": (GZIP, b"", 400, "body"),
    "deflate": (JSON | {"Content-Encoding": "deflate"}, VALID, 415, "Content-Encoding"),
    "gzip twice": (JSON | {"Content-Encoding": "gzip, gzip"}, VALID, 415, "Content-Encoding"),
    "text": ({"Content-Type": "text/plain"}, VALID, 415, "Content-Type"),
    "form": ({"Content-Type": "application/x-www-form-urlencoded"}, VALID, 415, "Content-Type"),
    "no type": ({}, VALID, 415, "Content-Type"),
}


@pytest.mark.parametrize(("headers", "body", "status", "field"), BATCHES.values(), ids=BATCHES)
def test_an_invalid_batch_is_rejected_and_its_field_is_named(
    ingest_client: TestClient, queued: Queued, headers: dict[str, str], body: bytes, status: int, field: str
) -> None:
    response = ingest_client.simulate_post("/api/v1/events/batch", headers=headers, body=body)

    assert response.status_code == status, response.text
    assert response.json["errors"][0]["field"] == field
    assert queued() == []


def test_every_error_of_a_batch_is_listed(ingest_client: TestClient) -> None:
    batch = [event(), {}, event() | {"event_id": "x", "extra": 1}, 5]
    response = ingest_client.simulate_post("/api/v1/events/batch", json=batch)

    found = {(error["index"], error["field"]) for error in response.json["errors"]}
    required = {(1, "event_type"), (1, "source"), (1, "timestamp")}
    assert found == {*required, (2, "event_id"), (2, "extra"), (3, "event")}


def test_each_malformed_line_is_listed_with_its_number(ingest_client: TestClient) -> None:
    response = ingest_client.simulate_post("/api/v1/events/batch", headers=NDJSON, body=b"\n{\n" + VALID + b"\n\xff\n")

    first, second = response.json["errors"]
    assert (first["index"], first["field"], second["index"]) == (0, "event", 2)
    assert "line 2" in first["message"]
    assert "line 4" in second["message"]


def test_at_most_1000_errors_are_listed(ingest_client: TestClient) -> None:
    response = ingest_client.simulate_post("/api/v1/events/batch", json=[{}] * 1_000)

    assert len(response.json["errors"]) == 1_000
    assert "the first 1000" in response.json["detail"]


def test_a_long_field_name_is_shortened_in_the_error(ingest_client: TestClient) -> None:
    response = ingest_client.simulate_post("/api/v1/events", json=event() | {"x" * 1_000_000: 1})

    assert response.status_code == 400
    assert len(response.content) < 1_000


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/api/v1/events", {"Content-Type": "text/plain"}, {"Accept": "application/json"}),
        ("/api/v1/events", NDJSON, {"Accept": "application/json"}),
        ("/api/v1/events/batch", {"Content-Type": "text/csv"}, {"Accept": "application/json, application/x-ndjson"}),
        ("/api/v1/events", JSON | {"Content-Encoding": "br"}, {"Accept-Encoding": "gzip"}),
    ],
)
def test_the_rejection_of_an_unsupported_media_type_lists_the_supported_types(
    ingest_client: TestClient, path: str, headers: dict[str, str], expected: dict[str, str]
) -> None:
    response = ingest_client.simulate_post(path, headers=headers, body=VALID)

    assert response.status_code == 415
    assert {name: response.headers[name] for name in expected} == expected

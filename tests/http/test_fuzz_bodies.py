"""Tests of ingest with generated request bodies: fast responses, and a queue that contains every accepted event."""

import gzip
import json
from datetime import datetime
from time import monotonic
from typing import Any

import redis
from falcon.testing import Result, TestClient
from hypothesis import given
from hypothesis import strategies as st
from support.fuzz_settings import examples
from support.http_events import Queued

SECONDS = 5  # time limit of a response in seconds, much longer than any response takes


def zoned(time: datetime) -> str:
    return f"{time.isoformat()}Z"


text = st.text(max_size=5) | st.sampled_from(["", "\x00", "\ud800", "shop", "2026-11-20T12:00:00Z"])
scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([10**400, -1, 1e308]) | text
tree = st.recursive(scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
nested = st.integers(1, 3_000).map(lambda depth: "[" * depth + "]" * depth)
event = st.fixed_dictionaries(
    {"event_type": text, "source": st.just("shop"), "timestamp": st.just("2026-11-20T12:00:00Z")},
    optional={"event_id": st.uuids().map(str), "payload": st.dictionaries(text, tree, max_size=3), "metadata": tree},
)
flawless = st.fixed_dictionaries(
    {"event_type": st.just("t"), "source": st.just("s"), "timestamp": st.datetimes(datetime(1971, 1, 1)).map(zoned)}
)
events = st.lists(flawless, max_size=12) | st.lists(event, max_size=4)


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


whole = (
    st.binary(max_size=200)
    | st.builds(dumped, tree | event | events | flawless | events.map(lambda some: {"events": some}))
    | events.map(lambda some: b"\n".join(map(dumped, some)))
    | nested.map(str.encode)
    | nested.map(lambda deep: b'{"payload":' + deep.encode())
)


@st.composite
def damaged(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    """Generate a body with a part deleted, doubled or replaced."""
    body = draw(bodies)
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, min(len(body), start + 8)))
    middle = draw(st.sampled_from([b"", body[start:end] * 2]) | st.binary(max_size=3))
    return body[:start] + middle + body[end:]


def gzip_of(body: bytes, rest: bytes) -> bytes:
    return gzip.compress(body, mtime=0) + rest


gzip_body = st.builds(gzip_of, whole, st.sampled_from([b"", b"", b"\x1f\x8b", gzip_of(b"\n", b"")]))
body = whole | damaged(whole) | gzip_body | damaged(gzip_body)
visible = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
kinds = st.sampled_from(
    [*["application/json"] * 3, *["application/x-ndjson"] * 2, "Application/JSON; charset=latin-1", "text/plain"]
)
encodings = st.sampled_from(["gzip", "gzip", "identity", " GZIP ", "deflate", "br", "gzip, gzip"])


headers = st.fixed_dictionaries({"Content-Type": kinds}) | st.fixed_dictionaries(
    {"Content-Type": kinds | visible},
    optional={"Content-Encoding": encodings | visible, "Idempotency-Key": visible},
)


@examples(400)
@given(st.sampled_from(["/api/v1/events", "/api/v1/events/batch"]), body, headers)
def test_every_body_gets_a_response_and_every_accepted_event_is_queued(
    ingest_client: TestClient,
    redis_client: redis.Redis,
    queued: Queued,
    path: str,
    sent: bytes,
    headers: dict[str, str],
) -> None:
    redis_client.flushdb()
    answer = send(ingest_client, path, sent, headers)
    accepted: list[str] = []
    if answer.status_code == 202:
        accepted = answer.json["event_ids"] if path.endswith("batch") else [answer.json["event_id"]]
        assert accepted
    else:
        assert_rejected(answer)
    assert [each["event_id"] for each in queued()] == accepted


@examples(100)
@given(st.sampled_from(["/api/v1/rules", "/api/v1/channels"]), body, headers)
def test_every_body_of_a_rule_or_channel_gets_a_response(
    client: TestClient, path: str, sent: bytes, headers: dict[str, str]
) -> None:
    assert_rejected(send(client, path, sent, headers))


def send(client: TestClient, path: str, body: bytes, headers: dict[str, str]) -> Result:
    started = monotonic()
    answer = client.simulate_post(path, body=body, headers=headers)
    assert monotonic() - started < SECONDS
    return answer


def assert_rejected(answer: Result) -> None:
    assert answer.status_code in (400, 413, 415)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == answer.status_code

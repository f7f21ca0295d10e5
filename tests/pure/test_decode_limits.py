"""Tests of the limits for the decoding of large and hostile bodies, and for the explanation of their errors."""

import time
from typing import Any

import msgspec
import pytest
from support.http_events import event, lines

from api import problems
from api.decoding import decode
from api.decoding.body_formats import BATCH, NDJSON, SINGLE, BodyFormat
from api.decoding.explain import MAX_EXPLAINED_ERRORS
from api.decoding.nodes import MAX_BODY_NODES, MAX_EVENT_NODES
from eventpulse.settings import Settings

LIMITS = Settings()


def body(events: list[Any], body_format: BodyFormat) -> bytes:
    return lines(*events) if body_format is NDJSON else msgspec.json.encode(events)


def rejected(sent: bytes, body_format: BodyFormat) -> problems.Problem:
    with pytest.raises(problems.Problem) as raised:
        decode.decode(sent, body_format, LIMITS)
    return raised.value


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the times at which a computation lets other requests run."""
    times: list[float] = []
    monkeypatch.setattr("api.decoding.time_slice.time.sleep", lambda _seconds: times.append(time.monotonic()))
    return times


@pytest.mark.parametrize("body_format", [BATCH, NDJSON], ids=["batch", "ndjson"])
def test_a_large_body_is_decoded_like_a_small_one(body_format: BodyFormat) -> None:
    events = [event(n=number, text="x" * 2_000) for number in range(300)]
    sent = body(events, body_format)
    assert len(sent) > decode.ONE_CALL_BYTES
    valid = decode.decode(sent, body_format, LIMITS)
    assert [msgspec.json.decode(text)["payload"]["n"] for text in valid.encoded] == list(range(300))
    assert len(set(valid.ids)) == 300


def test_a_large_envelope_is_decoded() -> None:
    sent = msgspec.json.encode({"events": [event(text="x" * 2_000)] * 300})
    assert len(decode.decode(sent, BATCH, LIMITS).ids) == 300


@pytest.mark.parametrize("body_format", [BATCH, NDJSON], ids=["batch", "ndjson"])
def test_the_errors_of_a_large_body_have_the_index_and_the_field(body_format: BodyFormat) -> None:
    events = [event(text="x" * 2_000) for _ in range(300)]
    events[7] |= {"event_id": "x"}
    events[250] |= {"payload": {"a": "\x00"}}
    problem = rejected(body(events, body_format), body_format)
    assert problem.status == 400
    assert [(error["index"], error["field"]) for error in problem.errors] == [(7, "event_id"), (250, "payload.a")]


def test_the_count_and_the_size_of_the_events_of_a_large_body_are_limited() -> None:
    assert rejected(body([event(text="x" * 500)] * 1_001, BATCH), BATCH).errors[0]["field"] == "events"
    too_large = rejected(body([event(text="x" * 70_000)] * 5, BATCH), BATCH)
    assert (too_large.status, [error["index"] for error in too_large.errors]) == (413, [0, 1, 2, 3, 4])


def test_a_large_valid_body_lets_other_requests_run(switches: list[float]) -> None:
    events = [event(list=[[1]] * 3_000) for _ in range(60)]
    decode.decode(body(events, BATCH), BATCH, LIMITS)
    assert len(switches) > 2


def test_the_events_of_a_body_with_many_brackets_are_decoded_one_by_one(switches: list[float]) -> None:
    sent = body([event(list=[[]] * 10_000) for _ in range(8)], BATCH)
    assert len(sent) < decode.ONE_CALL_BYTES
    decode.decode(sent, BATCH, LIMITS)
    assert switches


@pytest.mark.parametrize("value", ["[],", "1,", "{},", '"",'])
def test_a_body_with_too_many_nodes_is_rejected_without_decoding(value: str) -> None:
    sent = f"[{value * MAX_BODY_NODES}1]".encode()
    problem = rejected(sent, BATCH)
    assert (problem.status, problem.errors[0]["field"]) == (413, "body")


def test_an_event_with_too_many_nodes_is_rejected() -> None:
    dense = event(list=[1] * MAX_EVENT_NODES, text="x" * 100_000)
    problem = rejected(msgspec.json.encode([event(), dense]), BATCH)
    assert (problem.status, problem.errors[0]["index"]) == (413, 1)
    assert "commas" in problem.errors[0]["message"]
    assert rejected(msgspec.json.encode(dense), SINGLE).status == 413


def test_commas_in_strings_within_the_limit_of_an_event_are_accepted() -> None:
    assert decode.decode(msgspec.json.encode(event(text=",[{" * 20_000)), SINGLE, LIMITS).ids


@pytest.mark.parametrize("body_format", [BATCH, NDJSON], ids=["batch", "ndjson"])
def test_after_the_explained_errors_each_invalid_event_has_one_error(body_format: BodyFormat) -> None:
    events = [{"event_type": "t", "extra": 1} for _ in range(300)]
    problem = rejected(body(events, body_format), body_format)
    explained = problem.errors[:MAX_EXPLAINED_ERRORS]
    assert {error["field"] for error in explained} == {"source", "timestamp", "extra"}
    rest = [error for error in problem.errors if error["index"] > explained[-1]["index"]]
    assert [error["index"] for error in rest] == list(range(rest[0]["index"], 300))
    assert {error["field"] for error in rest} == {"extra"}
    assert all(error["message"] for error in rest)


def test_the_brief_error_names_the_field() -> None:
    events = [{} for _ in range(50)] + [
        event() | {"source": 1},
        {"event_type": "t"},
        5,
        event() | {"payload": {"a": "\x00"}},
    ]
    problem = rejected(msgspec.json.encode(events), BATCH)
    fields = [(error["index"], error["field"]) for error in problem.errors if error["index"] >= 50]
    assert fields == [(50, "source"), (51, "source"), (52, "event"), (53, "event")]


def test_a_large_invalid_event_is_explained_by_the_decoder_only() -> None:
    costly = event(list=[[]] * 20_000) | {"metadata": 1}
    problem = rejected(msgspec.json.encode(costly), SINGLE)
    assert [error["field"] for error in problem.errors] == ["metadata"]
    assert "Expected" in problem.errors[0]["message"]


def test_a_large_malformed_body_is_rejected_with_the_position() -> None:
    problem = rejected(msgspec.json.encode([event(text="x" * 2_000)] * 300)[:-1] + b",NaN]", BATCH)
    assert (problem.status, problem.errors[0]["field"]) == (400, "body")
    assert "byte" in problem.errors[0]["message"]


def test_a_large_malformed_line_is_named() -> None:
    sent = lines(*[event(text="x" * 2_000)] * 300) + b"\n\n{]"
    (error,) = rejected(sent, NDJSON).errors
    assert error["index"] == 300
    assert "line 302" in error["message"]

"""Tests of the decoder of events."""

import pytest

from api import problems
from api.decoding import decode
from api.decoding.body_formats import SINGLE
from api.decoding.incoming import ADDED_BYTES
from eventpulse.settings import Settings

EVENT = '{"source":%s,"event_type":"t","timestamp":"2026-01-01T00:00:00Z","source":%s}'


def test_the_last_value_of_a_repeated_field_is_used() -> None:
    accepted = decode.decode((EVENT % ('"a"', '"b"')).encode(), SINGLE, Settings())
    assert b'"source":"b"' in accepted.encoded[0]


@pytest.mark.parametrize("values", [("1", '"b"'), ('"a"', "1")])
def test_every_value_of_a_repeated_field_must_be_valid(values: tuple[str, str]) -> None:
    with pytest.raises(problems.Problem) as rejected:
        decode.decode((EVENT % values).encode(), SINGLE, Settings())
    assert rejected.value.status == 400
    assert rejected.value.errors


def test_many_brackets_and_an_escaped_backslash_before_u0000_are_accepted() -> None:
    """The decoder must not treat many brackets as deep nesting, or an escaped backslash before u0000 as NUL."""
    payload = '{"wide":[' + ",".join(["[]"] * 100) + r'],"text":"\\\\u0000"}'
    text = f'{{"source":"s","event_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{payload}}}'
    accepted = decode.decode(text.encode(), SINGLE, Settings())
    assert f'"payload":{payload}'.encode() in accepted.encoded[0]


@pytest.mark.parametrize(("size", "fits"), [(65_536, True), (65_536 + ADDED_BYTES, False)])
def test_an_event_may_have_64_kib_without_the_bytes_that_the_server_adds(size: int, fits: bool) -> None:
    head, tail = b'{"source":"s","event_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{"text":"', b'"}}'
    body = head + b"x" * (size - len(head + tail)) + tail
    if fits:
        assert decode.decode(body, SINGLE, Settings()).encoded
    else:
        with pytest.raises(problems.Problem) as rejected:
            decode.decode(body, SINGLE, Settings())
        assert rejected.value.status == 413


def test_an_escaped_backslash_before_u0000_is_accepted_at_depth_32() -> None:
    payload = '{"a":' * 31 + r'{"b":"\\u0000"}' + "}" * 31
    text = f'{{"source":"s","event_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{payload}}}'
    assert decode.decode(text.encode(), SINGLE, Settings()).encoded

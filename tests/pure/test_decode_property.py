"""Tests that the fast decoder and the schema accept the same events and read the same values."""

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import marshmallow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api import problems
from api.decoding import incoming, lenient_json
from api.decoding.body_formats import SINGLE
from api.decoding.event_schema import EventSchema
from eventpulse.settings import Settings

LIMITS = Settings()

text = st.text(st.characters(exclude_categories=[]) | st.sampled_from('\x00\ud800\udfff\\"u0000'), max_size=6)
number = (
    st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from([10**400, -(10**400), 2**63, 2**64, -0.0, 5e-324, 1.7976931348623157e308])
)
scalar = st.none() | st.booleans() | number | text
tree = st.recursive(scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))


def nest(value: Any, layers: list[bool]) -> Any:
    for mapped in layers:
        value = {"k": value} if mapped else [value]
    return value


deep = st.builds(nest, tree, st.lists(st.booleans(), min_size=28, max_size=34))
obj = st.dictionaries(text, tree | deep, max_size=3)

offset = st.integers(-24 * 60, 24 * 60).map(
    lambda minutes: f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
)
zone = st.sampled_from(["", "Z", "z", " Z", "+0100", "+01", "-00:00", "+24:00", "UTC"]) | offset
moment = st.datetimes() | st.sampled_from(
    [datetime.min, datetime.max, datetime(1970, 1, 1), datetime(9999, 12, 31, 23, 59, 59)]
)
timestamp = st.builds(
    lambda when, separator, fraction, zone: when.replace(microsecond=0).isoformat(separator) + fraction + zone,
    moment,
    st.sampled_from(["T", "t", " ", "_"]),
    st.sampled_from(["", ".5", ",5", ".123456", ".1234567", ".999999999", "."]),
    zone,
)
identifier = st.uuids().flatmap(
    lambda made: st.sampled_from(
        [str(made), str(made).upper(), made.hex, f"{{{made}}}", made.urn, str(made)[:-1], f" {made}"]
    )
)
name = st.text(min_size=1, max_size=5) | st.sampled_from(["", "x" * 255, "x" * 256, "𝄞" * 255, "𝄞" * 256]) | text
anything = tree | timestamp | identifier

valid = st.fixed_dictionaries(
    {
        "event_type": st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=5
        ),
        "source": st.just("shop"),
        "timestamp": st.datetimes(
            datetime(1971, 1, 1), datetime(9998, 1, 1), timezones=st.just(timezone(timedelta(hours=2)))
        ).map(datetime.isoformat),
    },
    optional={"event_id": st.uuids().map(str), "payload": obj, "metadata": obj},
)
changed = {
    "event_id": identifier | anything,
    "event_type": name | anything,
    "source": name | anything,
    "timestamp": timestamp | anything,
    "payload": obj | anything,
    "metadata": obj | anything,
    "received_at": timestamp,
    "paylod": obj,
}
MISSING: Any = object()


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Generate a valid event with up to two fields changed, added or deleted."""
    event = draw(valid)
    for field in draw(st.lists(st.sampled_from(sorted(changed)), max_size=2)):
        event[field] = draw(changed[field] | st.just(MISSING))
    return {field: value for field, value in event.items() if value is not MISSING}


def by_schema(body: bytes) -> dict[str, Any] | None:
    """Return the event that the schema reads from a body, or None if the body is invalid."""
    try:
        return EventSchema().load(lenient_json.parse_single(body)[0])
    except (problems.Problem, marshmallow.ValidationError):
        return None


def by_decoder(body: bytes) -> dict[str, Any] | None:
    """Return the event that the fast decoder reads from a body, or None if the body is invalid."""
    try:
        (event,) = SINGLE.decode(body)
        had_id = event.event_id is not None
        incoming.finalize([event], idempotency_key=None)
    except (ValueError, RecursionError):
        return None
    read = {field: getattr(event, field) for field in event.__struct_fields__}
    return read if had_id else read | {"event_id": None}


def assert_both_agree(body: bytes) -> None:
    fast, contract = by_decoder(body), by_schema(body)
    # The texts are compared, because -0.0, 0.0, 0 and False are equal as values.
    assert repr(sorted(fast.items()) if fast else None) == repr(sorted(contract.items()) if contract else None)


@settings(max_examples=500, deadline=None)
@given(events(), st.booleans())
def test_decoder_and_schema_accept_the_same_events(event: dict[str, Any], escaped: bool) -> None:
    assert_both_agree(json.dumps(event, ensure_ascii=escaped).encode("utf-8", "surrogatepass"))


@settings(max_examples=200, deadline=None)
@given(events(), st.data())
def test_decoder_and_schema_accept_the_same_damaged_events(event: dict[str, Any], data: st.DataObject) -> None:
    """One byte is deleted, doubled or replaced, so most bodies are not valid JSON."""
    body = json.dumps(event).encode()
    at = data.draw(st.integers(0, len(body) - 1))
    middle = data.draw(
        st.sampled_from([b"", body[at : at + 1] * 2, b" ", b'"', b"\\", b"0", b"-", b"e", b"]", b"}", b"\x00", b"\xff"])
    )
    assert_both_agree(body[:at] + middle + body[at + 1 :])


@pytest.mark.parametrize(
    "number",
    [
        "9" * 4_300,
        "9" * 4_301,
        "-" + "9" * 4_299,
        "-" + "9" * 4_300,
        "1e308",
        "1e309",
        "-1e309",
        "1e-999",
        "01",
        "-",
        "1.",
        ".5",
        "+1",
        "-0",
        "NaN",
        "Infinity",
    ],
)
def test_decoder_and_schema_accept_the_same_numbers(number: str) -> None:
    body = f'{{"source":"s","event_type":"t","timestamp":"2026-01-01T00:00:00Z","payload":{{"n":{number}}}}}'
    assert_both_agree(body.encode())

"""Lenient JSON parser for invalid requests, so that the schema can name the invalid fields.

The parser accepts values that are invalid in an event: NaN, Infinity, numbers out of range and lone surrogates. A text
that is nested too deeply for the parser is cut at a depth that is still too deep for the schema.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api import problems
from api.decoding.event_schema import MAX_DEPTH
from api.decoding.time_slice import TimeSlice

#: Nesting depth at which a text is cut; greater than the depth of any valid batch (an event in an array in an object).
PARSED_DEPTH = MAX_DEPTH + 8
MAX_DIGITS = 4_300  # maximum length of an integer; the sign counts as a digit, as in the fast decoder

TOKENS_PER_CHECK = 1_000  # tokens of `_shallow_parts` between two checks of the time slice

# An unterminated string matches up to the end of the text: otherwise the search would start again at each quote in the
# string and take quadratic time.
TOKEN = re.compile(r'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
LINE = re.compile(rb"\S[^\n]*")


@dataclass(frozen=True, slots=True)
class Malformed:
    """Reason why a text is not JSON."""

    reason: str


def parse(text: bytes, location: str = "") -> Any:
    """Return the JSON value of a text, or `Malformed`. `location` is added to the reason, for example " of line 3"."""
    if not text.strip():
        return Malformed("Must not be empty.")
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        return Malformed(f"Must be UTF-8; invalid byte at offset {error.start}{location}.")
    try:
        try:
            return _loads(decoded)
        except RecursionError:
            return _loads(_pruned(decoded))
    except json.JSONDecodeError as error:
        where = location or f" of line {error.lineno}"
        return Malformed(f"Must be JSON; error at column {error.colno}{where}: {error.msg}.")


def parse_single(body: bytes) -> list[Any]:
    """Return a list with the JSON value of the body. Raises `problems.Problem` if the body is not JSON."""
    return [well_formed(parse(body))]


def parse_batch(body: bytes) -> list[Any]:
    """Return the items of an array, or of `events` in an object. Raises `problems.Problem` for any other body."""
    batch = well_formed(parse(body))
    errors: list[problems.Error] = []
    if isinstance(batch, dict):
        errors += [problems.field_error(problems.printable(key), "Unknown field.") for key in batch if key != "events"]
        if "events" not in batch:
            errors.append(problems.field_error("events", "Missing data for required field."))
        batch = batch.get("events", [])
    if not isinstance(batch, list):
        errors.append(problems.field_error("events", "Must be an array of events."))
    if errors:
        raise problems.invalid(errors, "Invalid batch")
    return list(batch)


def parse_lines(body: bytes) -> Iterator[Any]:
    """Yield the JSON value, or `Malformed`, of each line that is not blank."""
    for number, line in numbered_lines(body):
        yield parse(line, f" of line {number}")


def numbered_lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not blank, from its first character that is not white space, with its number from 1."""
    number, counted = 1, 0
    for line in LINE.finditer(body):
        number += body.count(b"\n", counted, line.start())
        counted = line.start()
        yield number, line[0]


def pruned(text: bytes) -> bytes:
    """Return a JSON text with 0 in place of each value that is nested `PARSED_DEPTH` deep.

    A text that is not UTF-8 is returned unchanged.
    """
    try:
        return _pruned(text.decode()).encode()
    except UnicodeDecodeError:
        return text


def well_formed(value: Any) -> Any:
    """Return the value of a body. Raises `problems.Problem` with status 400 if it is `Malformed`."""
    if isinstance(value, Malformed):
        raise problems.invalid([problems.field_error("body", value.reason)], "Malformed JSON")
    return value


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else float("inf")


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=_integer)


def _pruned(text: str) -> str:
    return "".join(_shallow_parts(text))


def _shallow_parts(text: str) -> Iterator[str]:
    """Yield the parts of a JSON text, with 0 in place of each value that is nested `PARSED_DEPTH` deep."""
    depth = start = 0
    time_slice = TimeSlice()
    for number, token in enumerate(TOKEN.finditer(text)):
        if not number % TOKENS_PER_CHECK:
            time_slice.check()
        if token[0] in "[{":
            depth += 1
            if depth == PARSED_DEPTH:
                yield f"{text[start : token.start()]}0"
        elif token[0] in "]}":
            if depth == PARSED_DEPTH:
                start = token.end()
            depth -= 1
    if depth < PARSED_DEPTH:
        yield text[start:]

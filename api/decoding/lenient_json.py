"""JSON for explaining what is wrong with it: lets through what `decode` refuses, so that the schema can name the field.

Only refused requests come here. NaN, Infinity, numbers beyond any range and lone surrogates become values;
nesting too deep for a parser is cut, still too deep for an event.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from api import problems
from api.decoding.event_schema import MAX_DEPTH

#: Above what any valid batch needs: an event, inside an array, inside an object.
PARSED_DEPTH = MAX_DEPTH + 8
MAX_DIGITS = 4_300  # of an integer, its sign among them, as the fast decoder counts

# A string that does not end is taken to the end of the text: tried again at each of its quotes it would take for ever.
TOKEN = re.compile(r'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Malformed:
    """Text that is not JSON, and why."""

    reason: str


def value(text: bytes, place: str = "") -> Any:
    """The JSON value of a text, or what is `Malformed` about it. `place` is where the text is from, as " of line 3"."""
    if not text.strip():
        return Malformed("Must not be empty.")
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        return Malformed(f"Must be UTF-8, and is not at byte {error.start}{place}.")
    try:
        try:
            return _loads(decoded)
        except RecursionError:
            return _loads(_pruned(decoded))
    except json.JSONDecodeError as error:
        where = place or f" of line {error.lineno}"
        return Malformed(f"Must be JSON, and is not at column {error.colno}{where}: {error.msg}.")


def one(body: bytes) -> list[Any]:
    """The value of a body, as a list of one. Raises `problems.Problem` for what is not JSON."""
    return [_sound(value(body))]


def many(body: bytes) -> list[Any]:
    """The values of an array, or of an object with `events`. Raises `problems.Problem` for anything else."""
    batch = _sound(value(body))
    errors: list[problems.Error] = []
    if isinstance(batch, dict):
        errors += [_error(problems.printable(key), "Unknown field.") for key in batch if key != "events"]
        errors += [_error("events", "Missing data for required field.")] if "events" not in batch else []
        batch = batch.get("events", [])
    if not isinstance(batch, list):
        errors.append(_error("events", "Must be an array of events."))
    if errors:
        raise problems.invalid(errors, "Invalid batch")
    return list(batch)


def lines(body: bytes) -> Iterator[Any]:
    """The value of each line that is not empty, or what is `Malformed` about it."""
    for number, line in enumerate(body.split(b"\n"), start=1):
        if line.strip():
            yield value(line, f" of line {number}")


def _sound(parsed: Any) -> Any:
    if isinstance(parsed, Malformed):
        raise problems.invalid([_error("body", parsed.reason)], "Malformed JSON")
    return parsed


def _error(field: str, message: str) -> problems.Error:
    return {"field": field, "message": message}


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else float("inf")


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=_integer)


def _pruned(text: str) -> str:
    return "".join(_shallow(text))


def _shallow(text: str) -> Iterator[str]:
    """The parts of a JSON text that are less deep than `PARSED_DEPTH`, with 0 for each that is deeper."""
    depth = start = 0
    for token in TOKEN.finditer(text):
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

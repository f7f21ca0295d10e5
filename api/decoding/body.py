"""Request bodies, read piece by piece, so that a body too large is refused at its first byte too many."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from socket import socket
from time import monotonic
from typing import Any, Protocol

import falcon
from gunicorn.http.errors import ParseException

from api import problems
from api.decoding import lenient_json

PIECE_BYTES = 64 * 1024
SILENCE_SECONDS = 5.0
BODY_SECONDS = 30.0
GZIP = 16 + zlib.MAX_WBITS  # what makes zlib expect a gzip header and check the sum at the end


class Stream(Protocol):
    def read(self, size: int) -> bytes: ...


def read(req: falcon.Request, limit: int) -> bytes:
    """The body of a request, decompressed, of at most `limit` bytes.

    Raises `problems.Problem`: 413 beyond the limit, 415 for an encoding other than gzip,
    400 for a body that is broken off.
    """
    declared = req.content_length
    if declared is not None and declared > limit:
        raise _too_large(limit)
    pieces = _pieces(req, declared, limit)
    encoding = (req.get_header("Content-Encoding") or "identity").strip().lower()
    if encoding == "gzip":
        pieces = _unzipped(pieces)
    elif encoding != "identity":
        raise problems.unsupported("Content-Encoding", "Must be gzip, or left out.", {"Accept-Encoding": "gzip"})
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def read_json(req: falcon.Request, limit: int) -> Any:
    """The JSON value of a request. Raises `problems.Problem` as `read` does, and 400 for what is not JSON."""
    return lenient_json.one(read(req, limit))[0]


def _pieces(req: falcon.Request, declared: int | None, limit: int) -> Iterator[bytes]:
    # A chunked body has no length; the server that can take one ends the stream for us.
    stream: Stream = req.stream if req.env.get("wsgi.input_terminated") else req.bounded_stream
    received = 0
    try:
        with _patience(req):
            deadline = monotonic() + BODY_SECONDS
            while piece := stream.read(PIECE_BYTES):
                received += len(piece)
                if received > limit:
                    raise _too_large(limit)
                if monotonic() > deadline:
                    raise _too_slow()
                yield piece
    except TimeoutError as error:
        raise _too_slow() from error
    except (OSError, ParseException) as error:
        raise _broken("Must be whole, and its chunks well formed.") from error
    if declared is not None and received < declared:
        raise _broken(f"Must be whole: ends after {received} of {declared} bytes.")


@contextmanager
def _patience(req: falcon.Request) -> Iterator[None]:
    """Wait a bounded time for each piece: a client that falls silent is told so."""
    connection: socket | None = req.env.get("gunicorn.socket")
    if connection is None:
        yield
        return
    connection.settimeout(SILENCE_SECONDS)
    yield
    connection.settimeout(None)  # not after a failure: the server then reads a little of the rest, to throw it away


def _unzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress at most a piece at a time; gzip members may follow each other (RFC 1952, 2.2)."""
    member = zlib.decompressobj(GZIP)
    started = False
    try:
        for piece in pieces:
            rest = piece
            while rest:
                if member.eof:
                    member = zlib.decompressobj(GZIP)
                started = True
                yield member.decompress(rest, PIECE_BYTES)
                rest = member.unconsumed_tail or member.unused_data
    except zlib.error as error:
        raise _broken("Must be gzip.") from error
    if started and not member.eof:
        raise _broken("Must be whole: its gzip does not end.")


def _too_slow() -> problems.Problem:
    message = f"Must arrive within {BODY_SECONDS:g} s, and without a pause of {SILENCE_SECONDS:g} s."
    errors = [{"field": "body", "message": message}]
    return problems.Problem(HTTPStatus.REQUEST_TIMEOUT, "The body came too slowly", errors=errors)


def _too_large(limit: int) -> problems.Problem:
    return problems.too_large(
        "The body is too large", [{"field": "body", "message": f"Must have at most {limit} bytes, decompressed."}]
    )


def _broken(reason: str) -> problems.Problem:
    return problems.invalid([{"field": "body", "message": reason}], "Malformed body")

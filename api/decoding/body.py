"""Reading of request bodies. Reading stops when a body exceeds the maximum size or the maximum time."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from socket import socket
from time import monotonic
from typing import Protocol

import falcon
from gunicorn.http.errors import ParseException

from api import problems
from api.decoding.byte_budget import Reservation
from api.decoding.nodes import MAX_BODY_NODES, count_nodes, too_many_nodes
from api.decoding.time_slice import TimeSlice

CHUNK_BYTES = 64 * 1024
#: Maximum number of seconds to wait for the next bytes of a body.
IDLE_SECONDS = 5.0
#: Maximum number of seconds to read a whole body.
BODY_SECONDS = 30.0
#: Size of a body above which its nodes are counted while it is read.
COUNTED_BYTES = 256 * 1024
#: Maximum number of gzip members of a body: empty members use much time, but add no bytes to the decompressed body.
MAX_GZIP_MEMBERS = 1_000
GZIP = 16 + zlib.MAX_WBITS  # 16: zlib expects a gzip header and verifies the checksum at the end


class Stream(Protocol):
    """Readable stream of a request body."""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, or no bytes at the end of the body."""
        ...


def read(req: falcon.Request, max_bytes: int, reservation: Reservation | None = None) -> bytes:
    """Return the decompressed body of a request, whose bytes are added to `reservation` if there is one.

    Raises `problems.Problem`: 413 for more than `max_bytes`, 415 for an encoding other than gzip, 400 for an
    incomplete or damaged body, 408 for a body that arrives too slowly, 503 if the body exceeds the byte budget. A body
    whose Content-Length exceeds one of the limits is not read.
    """
    declared = req.content_length
    if declared is not None and declared > max_bytes:
        raise _too_large(max_bytes)
    if declared is not None and reservation:
        reservation.grow(declared)
    chunks = _chunks(req, declared, max_bytes)
    encoding = (req.get_header("Content-Encoding") or "identity").strip().lower()
    if encoding == "gzip":
        chunks = _decompressed(chunks)
    elif encoding != "identity":
        raise problems.unsupported("Content-Encoding", "Must be gzip or absent.", {"Accept-Encoding": "gzip"})
    body = bytearray()
    time_slice, nodes = TimeSlice(), 0
    for chunk in chunks:
        body += chunk
        if len(body) > COUNTED_BYTES:  # a rejected body is not decompressed any further
            nodes += count_nodes(chunk)
            if nodes > MAX_BODY_NODES:
                raise too_many_nodes()
        if len(body) > CHUNK_BYTES:
            time_slice.check()  # the decompression of gzip does not wait for the client
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        if reservation:
            reservation.grow(len(body))
    return bytes(body)


def _chunks(req: falcon.Request, declared: int | None, max_bytes: int) -> Iterator[bytes]:
    # A chunked body has no Content-Length, so `bounded_stream` would be empty. A server that sets
    # `wsgi.input_terminated` ends the stream itself.
    stream: Stream = req.stream if req.env.get("wsgi.input_terminated") else req.bounded_stream
    received = 0
    try:
        with _idle_timeout(req):
            deadline = monotonic() + BODY_SECONDS
            while chunk := stream.read(CHUNK_BYTES):
                received += len(chunk)
                if received > max_bytes:
                    raise _too_large(max_bytes)
                if monotonic() > deadline:
                    raise _too_slow()
                yield chunk
    except TimeoutError as error:
        raise _too_slow() from error
    except (OSError, ParseException) as error:
        raise _malformed("Must be complete, with well-formed chunks.") from error
    if declared is not None and received < declared:
        raise _malformed(f"Must be complete: ends after {received} of {declared} bytes.")


@contextmanager
def _idle_timeout(req: falcon.Request) -> Iterator[None]:
    """Limit the time of each read from the client's connection during the block."""
    connection: socket | None = req.env.get("gunicorn.socket")
    if connection is None:
        yield
        return
    connection.settimeout(IDLE_SECONDS)
    yield
    # Skipped after a failed read, so that the timeout also limits the draining of the rest of the body.
    connection.settimeout(None)


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the decompressed body in chunks; a body may consist of several gzip members (RFC 1952, 2.2)."""
    member = zlib.decompressobj(GZIP)
    members = 1
    started = False
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if member.eof:
                    member = zlib.decompressobj(GZIP)
                    members += 1
                    if members > MAX_GZIP_MEMBERS:
                        raise _too_many_members()
                started = True
                yield member.decompress(rest, CHUNK_BYTES)
                rest = member.unconsumed_tail or member.unused_data
    except zlib.error as error:
        raise _malformed("Must be valid gzip.") from error
    if started and not member.eof:
        raise _malformed("Must be complete: the gzip data is truncated.")


def _too_slow() -> problems.Problem:
    message = f"Must arrive within {BODY_SECONDS:g} s, without a pause of more than {IDLE_SECONDS:g} s."
    errors = [problems.field_error("body", message)]
    return problems.Problem(HTTPStatus.REQUEST_TIMEOUT, "Request body too slow", errors=errors)


def _too_large(max_bytes: int) -> problems.Problem:
    message = f"Must have at most {max_bytes} bytes after decompression."
    return problems.too_large("Request body too large", [problems.field_error("body", message)])


def _too_many_members() -> problems.Problem:
    message = f"Must have at most {MAX_GZIP_MEMBERS:,} gzip members."
    return problems.too_large("Request body too large", [problems.field_error("body", message)])


def _malformed(reason: str) -> problems.Problem:
    return problems.invalid([problems.field_error("body", reason)], "Malformed body")

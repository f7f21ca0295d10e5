"""Neighbours: rules, channels, clients and queries that need far more resources than others, beside normal traffic.

Each neighbour is a context manager that is active during its block. The events, rules and channels of neighbours have
names of their own, which the oracle and the audit leave out.
"""

import contextlib
import gzip
import http.client
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from chaos.context import Context
from chaos.recording_client import RecordingClient
from chaos.system import Event
from support import fake_http_server

#: Event type, and the beginning of the names of rules and channels.
NEIGHBOUR = "neighbour"
REQUEST_TIMEOUT_SECONDS = 10.0
GZIP_ZEROS_BYTES = 4_500_000
BRACKETS = b"[" * 2_400_000 + b"]" * 2_400_000


def rule(name: str, condition: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a rule for the events of neighbours."""
    scope = {"filters": {"event_type": NEIGHBOUR}, "group_by": []}
    return {
        "name": f"{NEIGHBOUR} {name}",
        "severity": "info",
        "window_seconds": 3_600,
        "cooldown_seconds": 0,
        "condition": {**scope, **condition},
        **fields,
    }


@contextmanager
def traffic(context: Context, per_second: float, groups: int = 100) -> Iterator[RecordingClient]:
    """Send events of neighbours during the block, in batches of 100. The audit includes these events."""
    path = context.client.path.with_name("neighbour")
    client = RecordingClient(context.system.url, _events(groups), per_second, path, batch=100, clients=2)
    client.start()
    try:
        yield client
    finally:
        client.stop()
        context.client.sent.update(client.sent)
        context.client.acked.update(client.acked)
        context.notes["neighbour_events"] = len(client.sent)
        context.notes["neighbour_acked"] = len(client.acked)


@contextmanager
def active_rule(context: Context, fields: Mapping[str, Any]) -> Iterator[str]:
    """Create a rule for the block, and yield its id."""
    with httpx.Client(base_url=context.system.url, timeout=REQUEST_TIMEOUT_SECONDS) as client:
        rule_id = client.post("/rules", json=fields).raise_for_status().json()["rule_id"]
        try:
            yield rule_id
        finally:
            client.delete(f"/rules/{rule_id}").raise_for_status()


@contextmanager
def channels(context: Context, behaviours: Sequence[Callable[[fake_http_server.Server], Any]]) -> Iterator[None]:
    """Create a Slack channel for each behaviour, for the block. A behaviour is made from the server of its channel."""
    with ExitStack() as undo:
        client = undo.enter_context(httpx.Client(base_url=context.system.url, timeout=REQUEST_TIMEOUT_SECONDS))
        for number, behaviour in enumerate(behaviours):
            server = undo.enter_context(fake_http_server.running(fake_http_server.answer(200, "ok")))
            server.behaviour = behaviour(server)
            server.record = lambda _received: None  # bodies are not kept, to save memory
            fields = {"name": f"{NEIGHBOUR} {number}", "kind": "slack", "settings": {"webhook_url": server.url}}
            channel_id = client.post("/channels", json=fields).raise_for_status().json()["channel_id"]
            undo.callback(client.delete, f"/channels/{channel_id}")
        yield


@contextmanager
def sockets(context: Context, number: int, first_bytes: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections to the API for the block, and send the same first bytes on each.

    The API may close connections at any time; a connection that it refuses is missing.
    """
    address = _address(context)
    with ExitStack() as undo:
        opened: list[socket.socket] = []
        for _ in range(number):
            with contextlib.suppress(OSError):
                each = undo.enter_context(socket.create_connection(address, REQUEST_TIMEOUT_SECONDS))
                each.sendall(first_bytes)
                opened.append(each)
        context.notes["connections"] = len(opened)
        yield opened


@contextmanager
def requests(context: Context, clients: int, send: Callable[[http.client.HTTPConnection], None]) -> Iterator[None]:
    """Let `clients` threads call `send` repeatedly during the block, each time with a new connection."""
    stopping, sent = threading.Event(), count()

    def repeat() -> None:
        while not stopping.is_set():
            connection = http.client.HTTPConnection(*_address(context), timeout=REQUEST_TIMEOUT_SECONDS)
            with contextlib.suppress(OSError, http.client.HTTPException):
                send(connection)
            connection.close()
            next(sent)
            stopping.wait(0.05)

    threads = [threading.Thread(target=repeat) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
        context.notes["neighbour_requests"] = next(sent)


def request_head(context: Context, target: str) -> bytes:
    """Return the head of a GET request for a path below the base URL of the API."""
    parts = urlsplit(context.system.url)
    return f"GET {parts.path}{target} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()


def body_head(context: Context, length: int) -> bytes:
    """Return the head of a request to ingest whose body has `length` bytes."""
    parts = urlsplit(context.system.url)
    return (
        f"POST {parts.path}/events/batch HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def post_body(body: bytes, encoding: str | None, connection: http.client.HTTPConnection) -> None:
    """Send a body to ingest, and read the response."""
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": encoding} if encoding else {})
    connection.request("POST", "/api/v1/events/batch", body, headers)
    connection.getresponse().read()


def leave(target: str, seconds: float, connection: http.client.HTTPConnection) -> None:
    """Send a GET request, and close the connection after `seconds` without a response."""
    connection.timeout = seconds
    connection.request("GET", f"/api/v1{target}")
    connection.getresponse().read()


#: Senders of bodies that are small or simple for the client and expensive for a server.
HEAVY_BODIES = (
    partial(post_body, BRACKETS, None),
    partial(post_body, gzip.compress(b"[" + b" " * GZIP_ZEROS_BYTES + b"{}]"), "gzip"),
    partial(post_body, gzip.compress(b"[" + b"1," * (GZIP_ZEROS_BYTES // 2) + b"1]"), "gzip"),
)


def _events(groups: int) -> Iterator[Event]:
    for number in count():
        yield {
            "event_id": str(uuid4()),
            "event_type": NEIGHBOUR,
            "source": NEIGHBOUR,
            "payload": {"n": number % groups},
        }


def _address(context: Context) -> tuple[str, int]:
    parts = urlsplit(context.system.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port

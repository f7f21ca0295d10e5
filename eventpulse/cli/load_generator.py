"""Open-loop load generator for the API.

Requests are due at a fixed rate, even if the server has not responded to earlier requests, and the latency of a
request is measured from the time at which it was due. A closed loop would slow down with the server and hide the
delay ("coordinated omission", G. Tene).
"""

import asyncio
import itertools
import random
import selectors
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from urllib.parse import urlsplit

import msgspec

EVENT_TYPES, SOURCES = 10, 20
TIMESTAMP = "2026-01-31T12:00:00.000000Z"
PREPARED_BODIES = 16  # minimum number of prepared requests, which are sent in turn
ANSWER_SECONDS = 30.0
RECONNECT_SECONDS = 0.05
NO_ANSWER = 0  # key in `Outcome.statuses` of requests without a response


@dataclass(slots=True)
class Outcome:
    """Duration, number of requests by status, and latencies of the accepted requests. Times are in seconds."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return self.statuses[202]

    def percentile(self, share: float) -> float:
        """Return the latency in ms that `share` of the accepted requests did not exceed (nearest rank).

        Returns NaN if no request was accepted.
        """
        ordered = sorted(self.latencies)
        return ordered[max(0, ceil(len(ordered) * share) - 1)] * 1000 if ordered else float("nan")


def drive(url: str, batch: int, *, seconds: float, rate: float | None, connections: int) -> Outcome:
    """Send requests of `batch` events for `seconds`, and return the outcome.

    `rate` is the number of requests per second; if it is None, a request is sent whenever a connection is free. `url`
    includes the version of the API, such as http://127.0.0.1:8000/api/v1. After the last request, waits at most
    `ANSWER_SECONDS` for responses. Raises `OSError` if no server listens.
    """
    # select() supports timeouts of fractions of a millisecond, unlike epoll.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(_Driver(url, requests(url, batch)).run(seconds, rate, connections))


def requests(url: str, batch: int, seed: int = 0) -> Iterator[bytes]:
    """Yield HTTP requests of `batch` events each, without end.

    If `batch` is 1, the requests use the endpoint for a single event. The timestamp of each event is the time at which
    its request is yielded. The events have no ids: the API generates the ids.
    """
    target, rng, numbers = urlsplit(url), random.Random(seed), itertools.count()  # noqa: S311 - not for security
    path = f"{target.path}/events/batch" if batch > 1 else f"{target.path}/events"
    prepared = []
    for _ in range(max(PREPARED_BODIES, EVENT_TYPES * SOURCES // batch)):
        events = [_event(next(numbers), rng) for _ in range(batch)]
        body = msgspec.json.encode(events if batch > 1 else events[0])
        head = f"POST {path} HTTP/1.1\r\nHost: {target.netloc}\r\nContent-Type: application/json\r\n"
        prepared.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    for request in itertools.cycle(prepared):
        yield request.replace(TIMESTAMP.encode(), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}".encode())


def _event(number: int, rng: random.Random) -> dict[str, object]:
    return {
        "event_type": f"bench.step-{number % EVENT_TYPES}",
        "source": f"bench-{number // EVENT_TYPES % SOURCES:02d}",
        "timestamp": TIMESTAMP,
        "payload": {"order": rng.randrange(10**6), "amount": rng.randrange(10**4) / 100, "currency": "EUR"},
        "metadata": {"region": "eu-west"},
    }


class _Driver:
    """Sender of requests over a pool of connections. Each connection has at most one request in flight."""

    def __init__(self, url: str, source: Iterator[bytes]) -> None:
        target = urlsplit(url)
        self.host, self.port = target.hostname or "127.0.0.1", target.port or 80
        self.source = source
        self.outcome = Outcome()
        self.free: asyncio.Queue[_Connection] = asyncio.Queue()
        self.in_flight = 0

    async def run(self, seconds: float, rate: float | None, connections: int) -> Outcome:
        for _ in range(connections):
            self.free.put_nowait(await self._connect())
        started = time.perf_counter()
        for due in _schedule(started, seconds, rate):
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            await self._send(await self.free.get(), due if rate else None)
        deadline = time.perf_counter() + ANSWER_SECONDS
        while self.in_flight and time.perf_counter() < deadline:
            await asyncio.sleep(0.002)
        self.outcome.statuses[NO_ANSWER] += self.in_flight
        self.outcome.seconds = time.perf_counter() - started
        return self.outcome

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self._answered), self.host, self.port)
        return connection

    async def _send(self, connection: "_Connection", due: float | None) -> None:
        if connection.closed:
            try:
                connection = await self._connect()
            except OSError:
                self.outcome.statuses[NO_ANSWER] += 1
                self.free.put_nowait(connection)
                await asyncio.sleep(RECONNECT_SECONDS)
                return
        self.in_flight += 1
        connection.send(next(self.source), due or time.perf_counter())

    def _answered(self, connection: "_Connection", status: int, due: float) -> None:
        self.in_flight -= 1
        self.outcome.statuses[status] += 1
        if status == 202:
            self.outcome.latencies.append(time.perf_counter() - due)
        self.free.put_nowait(connection)


def _schedule(started: float, seconds: float, rate: float | None) -> Iterator[float]:
    """Yield the time at which each request is due; without a rate, yield `started` until the duration has passed."""
    if rate is None:
        while time.perf_counter() < started + seconds:
            yield started
    else:
        yield from (started + number / rate for number in range(ceil(rate * seconds)))


class _Connection(asyncio.Protocol):
    """HTTP/1.1 connection that sends one request at a time. Each response must have a `Content-Length`."""

    def __init__(self, answered: Callable[["_Connection", int, float], None]) -> None:
        self.answered = answered
        self.closed = False
        self.due: float | None = None
        self.received = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        fields = head.lower().split(b"\r\n")
        length = next((int(each.partition(b":")[2]) for each in fields if each.startswith(b"content-length:")), 0)
        if not blank or len(body) < length:
            return
        self.received = b""
        if b"connection: close" in fields:
            self.closed = True
            self.transport.close()
        self._settle(int(head[9:12]))

    def connection_lost(self, _error: Exception | None) -> None:
        self.closed = True
        self._settle(NO_ANSWER)

    def _settle(self, status: int) -> None:
        if self.due is not None:
            due, self.due = self.due, None
            self.answered(self, status, due)

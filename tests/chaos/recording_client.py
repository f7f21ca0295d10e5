"""HTTP client that sends events at a given rate and records the outcome of each event."""

import http.client
import select
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from chaos.system import Event

CLIENT_TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 0.3
#: Maximum time from the due time of the last request until an indeterminate request is resent for the last time.
LAST_RETRY_SECONDS = 30.0
ACKED, REJECTED, INDETERMINATE = "acked", "rejected", "indeterminate"
#: Statuses of responses that guarantee that no event was queued.
REJECTION_STATUSES = (400, 413, 429)
#: Texts in 503 responses that guarantee that no event was queued.
REJECTION_TEXTS = ("reached its limit", "% of its memory", "must be noeviction")


class Response(NamedTuple):
    """Result of a request: end time (monotonic), duration in seconds, kind, and outcome for the events."""

    at: float
    seconds: float
    kind: str
    outcome: str


@dataclass
class RecordingClient:
    """Client that posts batches of `batch` events to `{url}/events/batch`, at `rate` events per second.

    The client appends a line to `path` before and after each request. With `repeat`, the client resends indeterminate
    requests with the same event ids until their outcome is known. Other requests are sent once.
    """

    url: str
    events: Iterator[Event]
    rate: float
    path: Path
    batch: int = 20
    clients: int = 8
    repeat: bool = False
    #: Outcome by event id.
    sent: dict[str, str] = field(default_factory=dict)
    #: Acknowledgement time (monotonic) by event id.
    acked: dict[str, float] = field(default_factory=dict)
    responses: list[Response] = field(default_factory=list)
    #: Fields that are added to each event.
    extra: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _next_due: float = 0.0

    def start(self) -> None:
        self._file = self.path.open("wb")
        self._next_due = time.monotonic()
        self._threads = [threading.Thread(target=self._send_all) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop sending requests, and wait for the pending requests."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._file.close()

    def send(self, events: list[Event]) -> None:
        """Send these events in one request and record their outcome."""
        connection = Connection(self.url)
        self._stamp(events)
        self._send(connection, events)
        connection.close()

    def mark_acked(self, event_id: str) -> None:
        """Record the acknowledgement of an event that this client did not send."""
        with self._lock:
            self.sent[event_id] = ACKED
            self.acked[event_id] = time.monotonic()

    def with_outcome(self, outcome: str) -> set[str]:
        """Return the ids of the events with this outcome."""
        with self._lock:
            return {event_id for event_id, known in self.sent.items() if known == outcome}

    def acked_at(self) -> dict[str, float]:
        """Return a copy of `acked`."""
        with self._lock:
            return dict(self.acked)

    def kinds(self) -> Counter[str]:
        """Return the number of responses of each kind."""
        return Counter(response.kind for response in list(self.responses))

    def latencies(self, after: float = 0.0, until: float = float("inf")) -> list[float]:
        """Return the sorted durations, in seconds, of the responses and timeouts between two monotonic times."""
        return sorted(
            each.seconds for each in list(self.responses) if after <= each.at <= until and _has_response(each)
        )

    def _send_all(self) -> None:
        connection = Connection(self.url)
        while not self._stopping.is_set():
            due, events = self._take()
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                break
            self._stamp(events)
            self._send(connection, events)
        connection.close()

    def _take(self) -> tuple[float, list[Event]]:
        with self._lock:
            events = [next(self.events) | self.extra for _ in range(self.batch)]
            # After a delay, at most one second of traffic is sent late: a longer burst would increase the latencies.
            due = self._next_due = max(self._next_due + self.batch / self.rate, time.monotonic() - 1.0)
        return due, events

    def _stamp(self, events: list[Event]) -> None:
        for each in events:
            each["timestamp"] = datetime.now(UTC).isoformat(timespec="microseconds")

    def _send(self, connection: "Connection", events: list[Event]) -> None:
        body, ids = msgspec.json.encode(events), [each["event_id"] for each in events]
        self._record(ids, "sending", None)
        while True:
            response = connection.post(body)
            self._record(ids, response.outcome, response)
            if response.outcome != INDETERMINATE or not self.repeat:
                return
            time.sleep(RETRY_SECONDS)
            if self._stopping.is_set() and time.monotonic() > self._next_due + LAST_RETRY_SECONDS:
                return

    def _record(self, ids: list[str], outcome: str, response: Response | None) -> None:
        line = {"outcome": outcome, "response": response, "ids": ids}
        with self._lock:
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()
            self.sent.update(dict.fromkeys(ids, INDETERMINATE if response is None else outcome))
            if response is not None:
                self.responses.append(response)
                if outcome == ACKED:
                    self.acked.update(dict.fromkeys(ids, response.at))


class Connection:
    """HTTP connection that is reopened after an error."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.path = f"{parts.path}/events/batch"
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=CLIENT_TIMEOUT_SECONDS)

    def close(self) -> None:
        self._connection.close()

    def post(self, body: bytes) -> Response:
        started = time.monotonic()
        if self._was_closed():
            self.close()
        try:
            if self._connection.sock is None:
                self._connection.connect()
        except OSError:
            time.sleep(0.02)  # no server listens: a pause avoids a busy loop
            return self._response(started, "no connection", REJECTED)
        try:
            self._connection.request("POST", self.path, body, {"Content-Type": "application/json"})
            reply = self._connection.getresponse()
            text = reply.read()
        except TimeoutError:
            self.close()
            return self._response(started, "timed out", INDETERMINATE)
        except (OSError, http.client.HTTPException):
            self.close()
            return self._response(started, "no response", INDETERMINATE)
        return self._response(started, *classify(reply.status, text))

    def _was_closed(self) -> bool:
        """Return whether the server closed the connection between two requests."""
        sock = self._connection.sock
        if sock is None:
            return False
        poll = select.poll()  # `select.select` fails for file descriptors above 1,023
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    def _response(self, started: float, kind: str, outcome: str) -> Response:
        now = time.monotonic()
        return Response(now, now - started, kind, outcome)


def classify(status: int, body: bytes) -> tuple[str, str]:
    """Return the kind of a response, and the outcome for the events of its request."""
    if status == 202:
        return "202", ACKED
    if status in REJECTION_STATUSES:
        return str(status), REJECTED
    if status == 503:
        try:
            detail = str(msgspec.json.decode(body).get("detail"))
        except (msgspec.DecodeError, AttributeError):
            detail = ""
        if any(text in detail for text in REJECTION_TEXTS):
            return "503 full", REJECTED
        return "503 unavailable", INDETERMINATE
    return str(status), INDETERMINATE


def _has_response(response: Response) -> bool:
    return response.kind not in ("no connection", "no response")

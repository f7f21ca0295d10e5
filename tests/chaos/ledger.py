"""A client that sends events at a given rate, and writes down what it was told about each of them."""

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
AGAIN_SECONDS = 0.3
#: For so long after the last event is due, what has no answer is sent again.
LAST_TRY_SECONDS = 30.0
ACKED, REFUSED, INDETERMINATE = "acked", "rejected", "indeterminate"
#: Statuses that say that nothing was queued.
REFUSALS = (400, 413, 429)
#: What a 503 says that was decided before anything was queued.
BEFORE_THE_QUEUE = ("more than", "% of its memory")


class Answer(NamedTuple):
    """How a request went: when that was known (monotonic), after how many seconds, and what it means."""

    at: float
    seconds: float
    kind: str
    outcome: str


@dataclass
class Ledger:
    """Requests of `batch` events to `{url}/events/batch`, `rate` events a second, until stopped.

    Before and after each request a line is written to `path`. With `repeat`, a request whose outcome is not known is
    sent again with the same ids until it is. No other event is sent twice.
    """

    url: str
    events: Iterator[Event]
    rate: float
    path: Path
    batch: int = 20
    clients: int = 8
    repeat: bool = False
    sent: dict[str, str] = field(default_factory=dict)
    #: When (monotonic) each event was acknowledged.
    acked: dict[str, float] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    #: Extra fields for the events to come, and how many events may be sent at all.
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
        """Send nothing new, and wait for what is under way."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._file.close()

    def send(self, events: list[Event]) -> None:
        """Send some events of the caller's own."""
        client = Client(self.url)
        self._stamp(events)
        self._send(client, events)
        client.close()

    def adopt(self, event_id: str) -> None:
        """Take an event that was queued by other means for one that was acknowledged."""
        with self._lock:
            self.sent[event_id] = ACKED
            self.acked[event_id] = time.monotonic()

    def of(self, outcome: str) -> set[str]:
        with self._lock:
            return {event_id for event_id, known in self.sent.items() if known == outcome}

    def acked_at(self) -> dict[str, float]:
        """When each acknowledged event was so, by now."""
        with self._lock:
            return dict(self.acked)

    def kinds(self) -> Counter[str]:
        return Counter(answer.kind for answer in list(self.answers))

    def latencies(self, after: float = 0.0, until: float = float("inf")) -> list[float]:
        """Seconds of each answer that came in this time, and of each that did not come in time; in order."""
        return sorted(each.seconds for each in list(self.answers) if after <= each.at <= until and _answered(each))

    def _send_all(self) -> None:
        client = Client(self.url)
        while not self._stopping.is_set():
            due, events = self._take()
            if self._stopping.wait(max(0.0, due - time.monotonic())):
                break
            self._stamp(events)
            self._send(client, events)
        client.close()

    def _take(self) -> tuple[float, list[Event]]:
        with self._lock:
            events = [next(self.events) | self.extra for _ in range(self.batch)]
            # Who was held up does not make up for it: a burst would measure itself.
            due = self._next_due = max(self._next_due + self.batch / self.rate, time.monotonic() - 1.0)
        return due, events

    def _stamp(self, events: list[Event]) -> None:
        for each in events:
            each["timestamp"] = datetime.now(UTC).isoformat(timespec="microseconds")

    def _send(self, client: "Client", events: list[Event]) -> None:
        body, ids = msgspec.json.encode(events), [each["event_id"] for each in events]
        self._note(ids, "sending", None)
        while True:
            answer = client.post(body)
            self._note(ids, answer.outcome, answer)
            if answer.outcome != INDETERMINATE or not self.repeat:
                return
            time.sleep(AGAIN_SECONDS)
            if self._stopping.is_set() and time.monotonic() > self._next_due + LAST_TRY_SECONDS:
                return

    def _note(self, ids: list[str], outcome: str, answer: Answer | None) -> None:
        line = {"outcome": outcome, "answer": answer, "ids": ids}
        with self._lock:
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()
            self.sent.update(dict.fromkeys(ids, INDETERMINATE if answer is None else outcome))
            if answer is not None:
                self.answers.append(answer)
                if outcome == ACKED:
                    self.acked.update(dict.fromkeys(ids, answer.at))


class Client:
    """One connection, replaced when it broke."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.path = f"{parts.path}/events/batch"
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=CLIENT_TIMEOUT_SECONDS)

    def close(self) -> None:
        self._connection.close()

    def post(self, body: bytes) -> Answer:
        started = time.monotonic()
        if self._was_closed():
            self.close()
        try:
            if self._connection.sock is None:
                self._connection.connect()
        except OSError:
            time.sleep(0.02)  # nobody listens just now: do not ask as fast as one can
            return self._answer(started, "no connection", REFUSED)
        try:
            self._connection.request("POST", self.path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            text = response.read()
        except TimeoutError:
            self.close()
            return self._answer(started, "timed out", INDETERMINATE)
        except (OSError, http.client.HTTPException):
            self.close()
            return self._answer(started, "no answer", INDETERMINATE)
        return self._answer(started, *meaning(response.status, text))

    def _was_closed(self) -> bool:
        """Whether the server ended the connection between two requests."""
        sock = self._connection.sock
        return sock is not None and bool(select.select([sock], [], [], 0)[0])

    def _answer(self, started: float, kind: str, outcome: str) -> Answer:
        now = time.monotonic()
        return Answer(now, now - started, kind, outcome)


def meaning(status: int, body: bytes) -> tuple[str, str]:
    """What an answer is called, and whether the events are accepted, refused, or possibly queued."""
    if status == 202:
        return "202", ACKED
    if status in REFUSALS:
        return str(status), REFUSED
    if status == 503:
        try:
            detail = str(msgspec.json.decode(body).get("detail"))
        except (msgspec.DecodeError, AttributeError):
            detail = ""
        if any(words in detail for words in BEFORE_THE_QUEUE):
            return "503 full", REFUSED
        return "503 away", INDETERMINATE
    return str(status), INDETERMINATE


def _answered(answer: Answer) -> bool:
    return answer.kind not in ("no connection", "no answer")

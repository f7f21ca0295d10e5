"""The door of the queue: what has passed it is kept."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

import redis
import structlog

from actors.broker import broker
from actors.messages import LARGEST_BUNDLE, bundles, line
from actors.queues import Unavailable
from actors.transport import is_full

log = structlog.get_logger()

QUEUE = "persist"
#: What `accept.lua` answers in place of a number of messages.
BACKLOG_FULL, MEMORY_FULL, FORGETFUL = -1, -2, -3
RETRY_AFTER_SECONDS = 2.0
#: Of requests that share a call; one alone may be larger.
LARGEST_GROUP_BYTES = 1024 * 1024
#: Above it, a call to Redis may take longer.
LARGE_BYTES = 512 * 1024
#: How long a refusal holds for all: who is refused meanwhile costs neither decoding nor Redis, which have enough to do.
SHUT_SECONDS = 0.25


@dataclass
class HighWaterMarks:
    """Where ingest stops, well before Redis does."""

    backlog: int = 1_000_000
    redis_memory_percent: int = 80

    def reason(self, answer: int) -> str | None:
        """What an answer of `accept.lua` means, if it took nothing."""
        if answer == BACKLOG_FULL:
            return f"more than {self.backlog} events wait to be stored"
        if answer == MEMORY_FULL:
            return f"Redis uses more than {self.redis_memory_percent} % of its memory"
        if answer == FORGETFUL:
            return "Redis is set up to evict what it holds: `eventpulse doctor` tells more"
        return None


@dataclass(slots=True)
class _Group:
    """Events of several requests that go to Redis in one call."""

    lines: list[bytes] = field(default_factory=list)
    size: int = 0
    settled: threading.Event = field(default_factory=threading.Event)
    refusal: str | None = None


class Door:
    """Requests that come while a call to Redis is under way share the next one; nobody waits for company.

    This is group commit: D. DeWitt et al., "Implementation Techniques for Main Memory Database Systems", 1984.
    """

    def __init__(self, marks: HighWaterMarks, batch: int = LARGEST_BUNDLE) -> None:
        self.marks = marks
        self.batch = batch
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # of the one group that is with Redis
        self._gathering: _Group | None = None
        self._refusal: str | None = None
        self._shut_until = 0.0

    def why_shut(self) -> str | None:
        """Why nothing is taken at this moment; None: it may be."""
        return self._refusal if monotonic() < self._shut_until else None

    def pass_through(self, lines: Sequence[bytes]) -> str | None:
        """Queue the events of one request; returns why Redis did not take them, if so."""
        size = sum(map(len, lines))
        with self._lock:
            group = self._gathering
            leads = group is None or group.size + size > LARGEST_GROUP_BYTES
            if group is None or leads:
                group = self._gathering = _Group()
            group.lines += lines
            group.size += size
        if leads:
            self._lead(group)
        else:
            group.settled.wait()
        return group.refusal

    def _lead(self, group: _Group) -> None:
        try:
            with self._turn:
                sleep(0)  # lets run who is ready to join, and returns at once when nobody is
                with self._lock:
                    if self._gathering is group:
                        self._gathering = None  # who comes now belongs to the next group
                # Who waited for a call that failed does not wait for another.
                group.refusal = self.why_shut() or self._queue(group)
        except BaseException:
            group.refusal = "the request that queued it was interrupted"
            with self._lock:
                if self._gathering is group:
                    self._gathering = None
            raise
        finally:
            group.settled.set()

    def _queue(self, group: _Group) -> str | None:
        arguments: list[Any] = [QUEUE, self.marks.backlog, self.marks.redis_memory_percent]
        for bundle in bundles(QUEUE, group.lines, self.batch):
            arguments += bundle
        client = broker.patient_client if group.size > LARGE_BYTES else broker.client
        try:
            answer = broker.scripts["accept"](keys=[broker.namespace], args=arguments, client=client)
            refusal = self.marks.reason(answer)
        except redis.RedisError as error:
            log.warning("queue_unavailable", error=f"{type(error).__name__}: {error}")
            refusal = self.marks.reason(MEMORY_FULL) if is_full(error) else "Redis cannot be reached or cannot write"
        if refusal is not None:
            self._refusal, self._shut_until = refusal, monotonic() + SHUT_SECONDS
        return refusal


#: Replaced when the settings are known.
door = Door(HighWaterMarks())


def admit() -> None:
    """Raise `Unavailable` if the events of a moment ago were refused, before any work is done for these."""
    _check(door.why_shut())


def accept(events: Sequence[bytes], request_id: str | None) -> None:
    """Queue one `persist` message for each event, all or none, in a call to Redis that other requests may share.

    `events` are JSON objects; they are queued as they are. When this returns, Redis has confirmed them.
    Raises `Unavailable` when Redis is away, or the backlog or Redis' memory is above its high-water mark.
    Then nothing was queued or, after a time-out, these very events were: to send them again with the same ids is
    safe.
    """
    _check(door.pass_through([line(event, request_id) for event in events]))


def _check(refusal: str | None) -> None:
    if refusal is not None:
        raise Unavailable(refusal, RETRY_AFTER_SECONDS)

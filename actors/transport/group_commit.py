"""Group commit and admission control for the messages that the API enqueues in Redis."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep

import redis
import structlog

from actors.transport.messages import MAX_BUNDLE_MESSAGES, make_bundles
from actors.transport.redis_broker import AcceptLimits, RedisBroker, is_out_of_memory

log = structlog.get_logger()

#: Replies of `accept.lua` that mean a rejection.
BACKLOG_FULL, MEMORY_FULL, EVICTION_ENABLED = -1, -2, -3
#: Maximum size in bytes of a group of several requests; a single request may be larger.
MAX_GROUP_BYTES = 1024 * 1024
#: Size in bytes above which a group is sent with `bulk_client`, whose timeout is longer.
BULK_BYTES = 512 * 1024
#: Time after a rejection during which all requests are rejected before they are decoded, without a call to Redis.
REJECTION_HOLD_SECONDS = 0.25


@dataclass
class HighWaterMarks:
    """Limits at which requests are rejected.

    `backlog`: number of messages in the backlog. `redis_memory_percent`: used memory in per cent of maxmemory.
    """

    backlog: int
    redis_memory_percent: int

    def rejection(self, reply: int, sent: int) -> str | None:
        """Return the reason for a rejection by `accept.lua`, or None if all `sent` messages were enqueued."""
        if reply == BACKLOG_FULL:
            return f"the backlog has reached its limit of {self.backlog} messages"
        if reply == MEMORY_FULL:
            return f"Redis uses more than {self.redis_memory_percent} % of its memory limit (maxmemory)"
        if reply == EVICTION_ENABLED:
            return "Redis is configured to evict keys: maxmemory-policy must be noeviction"
        if reply != sent:  # accept.lua skipped a bundle, because another process has generated the same id
            log.error("messages_not_enqueued", sent=sent, enqueued=reply)
            return f"Redis enqueued {reply} of {sent} messages"
        return None


@dataclass(slots=True)
class _Group:
    """Group of requests whose records are enqueued by one call to Redis."""

    records: list[bytes] = field(default_factory=list)
    size: int = 0
    done: threading.Event = field(default_factory=threading.Event)
    rejection: str | None = None


class GroupCommit:
    """Group commit without artificial delay: requests that arrive during a call to Redis share the next call.

    Source: D. DeWitt et al., "Implementation Techniques for Main Memory Database Systems", 1984.
    """

    def __init__(
        self,
        broker: RedisBroker,
        queue_name: str,
        marks: HighWaterMarks,
        batch_size: int = MAX_BUNDLE_MESSAGES,
        backlog_queues: Sequence[str] = (),
    ) -> None:
        """Set the queue and the limits. The backlog is the number of messages in `queue_name` and `backlog_queues`."""
        self.marks = marks
        self._backlog_queues = (queue_name, *backlog_queues)
        self._broker = broker
        self._queue_name = queue_name
        self._batch_size = batch_size
        self._lock = threading.Lock()  # guards the open group
        self._commit_lock = threading.Lock()  # held by the thread that commits a group
        self._open_group: _Group | None = None
        self._last_rejection: str | None = None
        self._rejecting_until = 0.0

    @property
    def waiting_messages(self) -> int:
        """Number of messages in the open group, which waits until the current call to Redis ends."""
        with self._lock:
            return len(self._open_group.records) if self._open_group else 0

    def rejection_reason(self) -> str | None:
        """Return why requests are rejected at this moment, or None if they may be submitted."""
        return self._last_rejection if monotonic() < self._rejecting_until else None

    def submit(self, records: Sequence[bytes]) -> str | None:
        """Enqueue the records of one request, all or none; return the reason for a rejection, or None."""
        size = sum(map(len, records))
        with self._lock:
            group = self._open_group
            leads = group is None or group.size + size > MAX_GROUP_BYTES
            if group is None or leads:
                group = self._open_group = _Group()
            group.records += records
            group.size += size
        if leads:
            self._commit(group)
        else:
            group.done.wait()
        return group.rejection

    def _commit(self, group: _Group) -> None:
        try:
            with self._commit_lock:
                sleep(0)  # let other threads run, so that their requests can join this group
                self._close(group)
                # If the previous call was rejected, reject this group too, without another call to Redis.
                group.rejection = self.rejection_reason() or self._enqueue(group)
        except BaseException:
            group.rejection = "the call to Redis was interrupted: send the request again"
            self._close(group)
            raise
        finally:
            group.done.set()

    def _close(self, group: _Group) -> None:
        with self._lock:
            if self._open_group is group:
                self._open_group = None

    def _enqueue(self, group: _Group) -> str | None:
        try:
            rejection = self.marks.rejection(self._accept(group), len(group.records))
        except redis.RedisError as error:
            log.warning("enqueue_failed", error=f"{type(error).__name__}: {error}")
            full = is_out_of_memory(error)
            rejection = self.marks.rejection(MEMORY_FULL, 0) if full else "Redis is unavailable or rejects writes"
        if rejection is not None:
            self._last_rejection, self._rejecting_until = rejection, monotonic() + REJECTION_HOLD_SECONDS
        return rejection

    def _accept(self, group: _Group) -> int:
        """Enqueue the group and return the reply of `accept.lua`. Raises `redis.RedisError`."""
        bundles = make_bundles(self._queue_name, group.records, self._batch_size)
        limits = AcceptLimits(self._backlog_queues, self.marks.backlog, self.marks.redis_memory_percent)
        return self._broker.accept(self._queue_name, bundles, limits, is_bulk=group.size > BULK_BYTES)

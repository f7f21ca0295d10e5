"""Consumer that leases messages in batches and passes each batch to Dramatiq as one message.

An actor with the option `batch` takes several messages in one call, `persist(*events)`, and Dramatiq's middleware runs
once for the batch. Entries that were leased together are acknowledged together. If a batch fails, its entries are
isolated: each message runs alone, with its own retries, so that a message that fails does not affect other messages.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from time import monotonic
from typing import Any

import dramatiq
import redis
import structlog
from dramatiq.broker import MessageProxy
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message

from actors.transport.batch import Batch, as_batch
from actors.transport.connection import QueueConnection
from actors.transport.entry_id import EntryId
from actors.transport.messages import decode_bundle, decode_message, records_of, split_bundle
from actors.transport.middleware import stopping

log = structlog.get_logger()

#: Maximum time between two heartbeats; each call of `fetch.lua` records a heartbeat.
HEARTBEAT_SECONDS = 1.0
#: Minimum time between two fetches, so that many small requests form a batch. It does not apply after a fetch of at
#: least half a batch, or when the queue was empty.
MIN_FETCH_INTERVAL_SECONDS = 0.02
#: Maximum wait for messages while batches are in progress: an entry that is isolated meanwhile does not end the wait.
BUSY_WAIT_SECONDS = 0.05
#: Minimum timeout of a blocking call: Redis rounds a timeout below one millisecond to 0, which means no timeout.
MIN_WAIT_SECONDS = 0.005
#: States in the replies of `fetch.lua`, which documents them.
READY, ISOLATED, DRAIN_FIRST, SPLIT_FIRST = 0, 1, 2, 3
_numbers = count(1)


class Consumer(dramatiq.Consumer):
    """Consumer of one queue: at most `batch` messages in one call, and `concurrency` calls at the same time.

    If `batch` is None, the actor takes one message at a time, with decoded arguments.
    Each consumer has its own lease. After a connection error Dramatiq closes the consumer and creates another. `close`
    releases the lease, which may include entries from a call whose reply was lost.
    """

    def __init__(
        self, broker: QueueConnection, queue_name: str, batch: int | None, concurrency: int, timeout_ms: int
    ) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.batch = batch or 1
        self.decodes = batch is None
        self.concurrency = concurrency
        self.timeout = min(timeout_ms / 1000, HEARTBEAT_SECONDS)
        self.lease = f"{queue_name}|{broker.worker_id}.{next(_numbers)}"
        self._leased: deque[Batch] = deque()  # batches that are not yet passed to Dramatiq
        self._in_progress = 0  # number of batches passed to Dramatiq and not yet settled
        self._settled = threading.Condition()
        self._next_fetch_at = 0.0
        self._may_hold_leases = False
        self._runs_alone = False  # an isolated message is next or in progress: no other message may run

    def __next__(self) -> MessageProxy | None:
        """Return the next batch, or None after at most `HEARTBEAT_SECONDS`. Raises `ConnectionClosed`."""
        try:
            return self._next_batch()
        except redis.RedisError as error:  # after any error, Dramatiq replaces this consumer
            raise ConnectionClosed(error) from None

    def _next_batch(self) -> Batch | None:
        limit = 1 if self._runs_alone else self.concurrency
        if stopping.is_set():  # the heartbeat keeps the leases of the batches that are still in progress
            self._wait_with_heartbeat(lambda: False)
        elif self._in_progress >= limit:
            self._wait_with_heartbeat(lambda: self._in_progress < limit)
        elif self._leased:
            return self._dispatch(self._leased.popleft())
        elif (early_seconds := self._next_fetch_at - monotonic()) > 0:
            self._pause(early_seconds)
        else:
            return self._fetch()
        return None

    def _dispatch(self, batch: Batch) -> Batch:
        with self._settled:
            self._in_progress += 1
        return batch

    def _pause(self, seconds: float) -> None:
        with self._settled:
            self._settled.wait(seconds)

    def _wait_with_heartbeat(self, is_ready: Callable[[], bool]) -> None:
        with self._settled:
            in_time = self._settled.wait_for(is_ready, self.timeout)
        if not in_time:
            self._call_fetch(0)

    def _call_fetch(self, max_messages: int) -> list[Any]:
        before, self._may_hold_leases = self._may_hold_leases, True  # entries may be leased even if the reply is lost
        try:
            reply: list[Any] = self.broker.run_script(
                "fetch", self.queue_name, self.lease, max_messages, self._in_progress == 0
            )
        except redis.ResponseError:
            self._may_hold_leases = before
            raise
        return reply

    def _fetch(self) -> Batch | None:
        started = monotonic()
        state, next_due_ms, *flat = self._call_fetch(self.batch)
        entries = list(zip(map(bytes.decode, flat[::2]), flat[1::2], strict=True))
        self._runs_alone = state == ISOLATED
        if state == DRAIN_FIRST:
            self._wait_with_heartbeat(lambda: self._in_progress == 0)
        elif state == SPLIT_FIRST:
            ((bundle_id, data),) = entries
            self.broker.run_script("split", self.queue_name, bundle_id, split_bundle(bundle_id, data))
        elif not entries:
            self._wait_for_messages(next_due_ms)
        elif batch := self._merge(self._decode_all(entries)):
            if len(batch.records) < self.batch // 2:
                self._next_fetch_at = started + MIN_FETCH_INTERVAL_SECONDS
            return self._dispatch(batch)
        return None

    def _decode_all(self, entries: Iterable[tuple[str, bytes]]) -> list[Batch]:
        """Return a batch for each entry that can be decoded. Dead-letter other messages, and isolate other bundles."""
        batches = []
        for entry_id, data in entries:
            try:
                batches.append(self._decode(entry_id, data))
            except Exception as error:
                self._reject(entry_id, data, error)
        return batches

    def _decode(self, entry_id: str, data: bytes) -> Batch:
        if EntryId.parse(entry_id).is_bundle:
            return Batch(self, [entry_id], *decode_bundle(entry_id, data))
        if self.decodes:
            return Batch(self, [entry_id], Message.decode(data), [])
        message = decode_message(data)
        return Batch(self, [entry_id], message, records_of(message))

    def _reject(self, entry_id: str, data: bytes, error: Exception) -> None:
        """Dead-letter a message that cannot be decoded. Isolate an undecodable bundle, so that the bundle is split."""
        if EntryId.parse(entry_id).is_bundle:
            self._call("isolate", [entry_id])
            return
        log.error("unreadable_message", queue=self.queue_name, message_id=entry_id, error=str(error))
        self._call("finish", [], [(entry_id, data, f"unreadable: {error}")], {}, [])

    def _merge(self, batches: Iterable[Batch]) -> Batch | None:
        """Return one batch of the messages that may run together, or None; keep the other batches for later calls."""
        together: list[Batch] = []
        for batch in batches:
            # A message that failed before, or may crash its worker, must not share a batch.
            alone = self._runs_alone or "retries" in batch.options
            if alone or (together and together[0].actor_name != batch.actor_name):
                self._leased.append(batch)
            else:
                together.append(batch)
        return Batch.merge(together) if together else None

    def _wait_for_messages(self, next_due_ms: int) -> None:
        """Wait for an entry until the timeout: BLMOVE from a list to its own head blocks while the list is empty."""
        timeout = self.timeout
        if next_due_ms >= 0:
            timeout = min(timeout, next_due_ms / 1000)
        if self._in_progress:
            timeout = min(timeout, BUSY_WAIT_SECONDS)
        timeout = max(timeout, MIN_WAIT_SECONDS)
        queue = f"{self.broker.namespace}:{self.queue_name}"
        try:
            self.broker.client.blmove(queue, queue, timeout, "LEFT", "LEFT")  # type: ignore[arg-type]
        except redis.exceptions.OutOfMemoryError:
            self._pause(MIN_FETCH_INTERVAL_SECONDS)  # a full Redis rejects BLMOVE, but not the scripts that free memory

    def ack(self, message: MessageProxy) -> None:
        """Settle a batch after its call. Raises `ConnectionClosed`.

        The consumer that leased the batch must settle it; Dramatiq may have replaced that consumer with this one.
        """
        batch = as_batch(message)
        batch.consumer.settle(batch)

    def nack(self, message: MessageProxy) -> None:
        """Dead-letter a message with the traceback and the retry count of its last attempt. Raises `ConnectionClosed`.

        A batch of several messages is isolated. This happens only if the actor of the batch does not exist.
        """
        batch = as_batch(message)
        if batch.is_batch:
            batch.needs_split = True
            self.ack(batch)
            return
        batch.consumer.dead_letter(batch)

    def settle(self, batch: Batch) -> None:
        if batch.needs_split:
            self._call("isolate", batch.ids)
        elif not (batch.interrupted or batch.unhandled):
            self._call("finish", batch.ids, [], batch.outbox.counts, batch.outbox.follow_ups)
        self._release_slot()

    def dead_letter(self, batch: Batch) -> None:
        letter = (batch.ids[0], batch._message.encode(), _reason(batch._exception))
        self._call("finish", [], [letter], batch.outbox.counts, batch.outbox.follow_ups)
        self._release_slot()

    def _call(self, script: str, *arguments: Any) -> None:
        try:
            self.broker.run_script(script, self.queue_name, self.lease, *arguments)
        except redis.RedisError as error:
            # Dramatiq repeats `ack` or `nack` until Redis is available; meanwhile the batch stays leased.
            raise ConnectionClosed(error) from None

    def _release_slot(self) -> None:
        with self._settled:
            self._in_progress -= 1
            self._settled.notify()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Do nothing: `close`, which Dramatiq calls next, releases all leases in one step."""

    def close(self) -> None:
        """Release the leases. If Redis is unavailable, the next consumer releases them, or they are recovered."""
        if self._may_hold_leases and not self.release_leases():
            self.broker.unreleased_consumers.append(self)

    def release_leases(self) -> bool:
        """Release all leased entries; return whether the call to Redis succeeded."""
        try:
            self.broker.run_script("release", self.queue_name, self.lease)
        except redis.RedisError as error:
            log.warning("leases_not_released", queue=self.queue_name, error=str(error))
            return False
        return True


def _reason(error: BaseException | None) -> str:
    text = str(error).strip().splitlines()  # the errors of PostgreSQL have details in further lines
    return f"{type(error).__name__}: {text[0]}" if text else repr(error)

"""The consumer: leases messages in micro-batches and hands each batch to Dramatiq as one call.

A stage is an actor of any number of events, `persist(*events)`: one message is a batch of one. Dramatiq's
middleware runs once a batch. Messages that came together travel and are settled together, as a bundle, until a
batch fails: then its messages are handed out again one at a time, each with its own retries and its own dead
letter, so that one bad event never spoils its neighbours.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any

import dramatiq
import redis
import structlog
from dramatiq.broker import MessageProxy
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message

from actors.transport.batch import Batch, as_batch
from actors.transport.messages import decode_bundle, decode_unopened, is_bundle, line

if TYPE_CHECKING:
    from actors.transport.redis_broker import RedisBroker

log = structlog.get_logger()

#: A consumer calls Redis at least this often, which is its heartbeat.
HEARTBEAT_SECONDS = 1.0
#: Least time between two calls for more, unless the first brought half a batch: of many small requests, batches form
#: in it. What comes after a quiet moment is fetched at once.
MIN_FETCH_INTERVAL_SECONDS = 0.02
#: What `fetch.lua` says of its reply: alone, because it may kill its worker; or nothing before all else is settled.
SUSPECT, DRAIN_FIRST = 1, 2
_incarnations = count(1)


class Consumer(dramatiq.Consumer):
    """Leases the messages of one queue, `batch` at a time and at most `concurrency` batches at once.

    Without a `batch` the actor takes one message at a time, with its arguments decoded.

    Each consumer is a lease of its own. One that loses its connection gives back what it held and is replaced,
    so that messages which were leased by a reply that never arrived come back, too.
    """

    def __init__(
        self, broker: "RedisBroker", queue_name: str, batch: int | None, concurrency: int, timeout_ms: int
    ) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.batch = batch or 1
        self.decodes = batch is None
        self.concurrency = concurrency
        self.timeout = min(timeout_ms / 1000, HEARTBEAT_SECONDS)
        self.lease = f"{queue_name}|{broker.worker_id}.{next(_incarnations)}"
        self._waiting: deque[Batch] = deque()
        self._underway = 0
        self._settled = threading.Condition()
        self._next_fetch_at = 0.0
        self._may_hold_leases = False
        #: A suspect is next, or under way: nothing else is taken until it is settled.
        self._alone = False

    def __next__(self) -> MessageProxy | None:
        """The next batch, or None after at most `HEARTBEAT_SECONDS`."""
        try:
            most = 1 if self._alone else self.concurrency
            if self._underway >= most:
                self._wait_with_heartbeat(lambda: self._underway < most)
            elif self._waiting:
                return self._dispatch(self._waiting.popleft())
            elif (early := self._next_fetch_at - monotonic()) > 0:
                self._pause(early)
            else:
                return self._fetch()
        except redis.RedisError as error:  # whatever it is: this consumer is replaced, and tries again
            raise ConnectionClosed(error) from None
        return None

    def _dispatch(self, batch: Batch) -> Batch:
        with self._settled:
            self._underway += 1
        return batch

    def _pause(self, seconds: float) -> None:
        with self._settled:
            self._settled.wait(seconds)

    def _wait_with_heartbeat(self, ready: Callable[[], bool]) -> None:
        with self._settled:
            in_time = self._settled.wait_for(ready, self.timeout)
        if not in_time:
            self._call_fetch(0)

    def _call_fetch(self, most: int) -> list[Any]:
        idle = int(self._underway == 0)
        arguments = [self.queue_name, self.lease, most, idle]
        held, self._may_hold_leases = self._may_hold_leases, True  # even when its reply is lost
        try:
            reply: list[Any] = self.broker.run_script("fetch", *arguments)
        except redis.ResponseError:
            self._may_hold_leases = held
            raise
        return reply

    def _fetch(self) -> Batch | None:
        started = monotonic()
        mode, next_due_ms, *found = self._call_fetch(self.batch)
        self._alone = mode == SUSPECT
        if mode == DRAIN_FIRST:
            self._wait_with_heartbeat(lambda: self._underway == 0)
            return None
        if not found:
            self._wait_for_messages(next_due_ms)
            return None
        together: list[Batch] = []
        for entry_id, data in zip(map(bytes.decode, found[::2]), found[1::2], strict=True):
            try:
                batch = self._decode(entry_id, data)
            except Exception as error:
                self._dead_letter(entry_id, data, error)
                continue
            # What failed before, or may have killed a worker, is not mixed with others again.
            alone = self._alone or "retries" in batch.options
            if alone or (together and together[0].actor_name != batch.actor_name):
                self._waiting.append(batch)
            else:
                together.append(batch)
        if not together:
            return None
        batch = Batch.merge(together)
        if len(batch.records) < self.batch // 2:
            self._next_fetch_at = started + MIN_FETCH_INTERVAL_SECONDS
        return self._dispatch(batch)

    def _decode(self, entry_id: str, data: bytes) -> Batch:
        if is_bundle(entry_id):
            return Batch(self, [entry_id], *decode_bundle(entry_id, data))
        if self.decodes:
            return Batch(self, [entry_id], Message.decode(data), [])
        message = decode_unopened(data)
        request_id = message.options.get("request_id")
        return Batch(self, [entry_id], message, [line(bytes(event), request_id) for event in message.args])

    def _dead_letter(self, entry_id: str, data: bytes, error: Exception) -> None:
        """Put a message that cannot be read among the dead, and leave its neighbours alone."""
        if is_bundle(entry_id):
            self._call("isolate", entry_id)
            return
        log.error("unreadable_message", queue=self.queue_name, message_id=entry_id, error=str(error))
        self._finish([], [entry_id, data, f"unreadable: {error}"], [1, "dead", 1])

    def _wait_for_messages(self, next_due_ms: int) -> None:
        """Block until the queue has something: moving its head onto itself changes nothing and waits for it."""
        timeout = self.timeout
        if next_due_ms >= 0:
            timeout = min(timeout, next_due_ms / 1000)
        if self._underway:
            # What comes back from a batch that failed is on the list of suspects: look for it often.
            timeout = min(timeout, 0.05)
        # Redis cuts a time-out below a millisecond down to 0, which means for ever.
        timeout = max(timeout, 0.005)
        queue = f"{self.broker.namespace}:{self.queue_name}"
        try:
            self.broker.client.blmove(queue, queue, timeout, "LEFT", "LEFT")  # type: ignore[arg-type]
        except redis.exceptions.OutOfMemoryError:
            self._pause(MIN_FETCH_INTERVAL_SECONDS)  # a full Redis moves nothing, but the scripts that empty it go on

    def ack(self, message: MessageProxy) -> None:
        """Settle a work that went well or is to be tried again: its outbox has what follows.

        A work is settled by the consumer that leased it, which may have been replaced meanwhile.
        """
        batch = as_batch(message)
        if batch.needs_split:
            batch.consumer._call("isolate", *batch.ids)
        elif not (batch.interrupted or batch.unhandled):
            batch.consumer._finish(batch.ids, [], batch.outbox.as_arguments())
        batch.consumer._release_slot()

    def nack(self, message: MessageProxy) -> None:
        """Put a work among the dead, as it is now: with the traceback and the count of its last attempt."""
        batch = as_batch(message)
        if batch.is_batch:  # of an actor that does not exist: each of its messages is told so by itself
            batch.needs_split = True
            self.ack(batch)
            return
        error = batch._exception
        reason = str(error).strip().splitlines()  # PostgreSQL tells the details in further lines
        why = f"{type(error).__name__}: {reason[0]}" if reason else repr(error)
        batch.outbox.counts["dead"] = 1
        batch.consumer._finish([], [batch.ids[0], batch._message.encode(), why], batch.outbox.as_arguments())
        batch.consumer._release_slot()

    def _finish(self, ids: list[str], dead: list[Any], rest: list[Any]) -> None:
        self._call("finish", len(ids), *ids, len(dead) // 3, *dead, *rest)

    def _call(self, script: str, *arguments: Any) -> None:
        try:
            self.broker.run_script(script, self.queue_name, self.lease, *arguments)
        except redis.RedisError as error:
            # Dramatiq calls again until Redis is back; the work stays leased, or runs again elsewhere.
            raise ConnectionClosed(error) from None

    def _release_slot(self) -> None:
        with self._settled:
            self._underway -= 1
            self._settled.notify()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Dramatiq asks for this when it stops; `close` gives everything back at once."""

    def close(self) -> None:
        """Give back what is still leased; when Redis is away the next consumer sees to it, or the lease runs out."""
        if self._may_hold_leases and not self.release_leases():
            self.broker.unreleased_consumers.append(self)

    def release_leases(self) -> bool:
        """Give back what is still leased; returns whether Redis took it."""
        try:
            self.broker.run_script("release", self.queue_name, self.lease)
        except redis.RedisError as error:
            log.warning("lease_not_released", queue=self.queue_name, error=str(error))
            return False
        return True

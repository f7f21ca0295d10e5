"""The consumer: leases messages in micro-batches and hands each batch to Dramatiq as one call.

A stage is an actor of any number of events, `persist(*events)`: one message is a batch of one. Dramatiq's
middleware runs once a batch. When a batch fails, its messages are handed out again one at a time, each
with its own retries and its own dead letter, so that one bad event never spoils its neighbours.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any

import dramatiq
import redis
import structlog
from dramatiq.broker import MessageProxy
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message
from dramatiq.middleware import CurrentMessage

from actors.messages import decode_unopened
from actors.outbox import Outbox

if TYPE_CHECKING:
    from actors.transport import RedisBroker

log = structlog.get_logger()

#: A consumer calls Redis at least this often, which is its heartbeat.
HEARTBEAT_SECONDS = 1.0
REDIS_AWAY = (redis.ConnectionError, redis.TimeoutError)
#: What `fetch.lua` says of its reply: alone, because it may kill its worker; or nothing before all else is settled.
SUSPECT, DRAIN_FIRST = 1, 2
_incarnations = count(1)


class Work(MessageProxy):
    """One call of one actor: the messages behind it, and what leaves with their acknowledgement."""

    def __init__(self, consumer: "Consumer", members: list[Message[Any]]) -> None:
        first = members[0]
        if len(members) > 1:
            first = first.copy(args=tuple(argument for member in members for argument in member.args))
        super().__init__(first)
        self.consumer = consumer
        self.members = members
        self.outbox = Outbox()
        #: The batch failed: its members are to be processed one by one.
        self.split = False
        #: The worker stopped in the middle: the messages stay leased until the consumer gives them back.
        self.abandoned = False

    @property
    def is_batch(self) -> bool:
        return len(self.members) > 1

    @property
    def unhandled(self) -> bool:
        """It failed, and nothing took care of it: to acknowledge it would be to lose it."""
        return self._exception is not None and not self.outbox.follow_ups

    @property
    def ids(self) -> list[str]:
        return [member.options["redis_message_id"] for member in self.members]

    def __str__(self) -> str:
        # Without the arguments: payloads do not belong in logs.
        return f"{self.actor_name} of {len(self.members)} messages" if self.is_batch else f"{self.actor_name}"


class Consumer(dramatiq.Consumer):
    """Leases the messages of one queue, `batch` at a time and at most `concurrency` batches at once.

    Each consumer is a lease of its own. One that loses its connection gives back what it held and is replaced,
    so that messages which were leased by a reply that never arrived come back, too.
    """

    def __init__(self, broker: "RedisBroker", queue_name: str, batch: int, concurrency: int, timeout_ms: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.batch = batch
        self.concurrency = concurrency
        self.timeout = min(timeout_ms / 1000, HEARTBEAT_SECONDS)
        self.lease = f"{queue_name}|{broker.worker_id}.{next(_incarnations)}"
        self._singles: deque[Work] = deque()
        self._underway = 0
        self._settled = threading.Condition()

    def __next__(self) -> MessageProxy | None:
        """The next work, or None after at most `HEARTBEAT_SECONDS`."""
        try:
            if self._underway >= self.concurrency:
                self._beat_until(lambda: self._underway < self.concurrency)
            elif self._singles:
                return self._hand_out(self._singles.popleft())
            else:
                return self._fetch()
        except REDIS_AWAY as error:
            raise ConnectionClosed(error) from None
        return None

    def _hand_out(self, work: Work) -> Work:
        with self._settled:
            self._underway += 1
        return work

    def _beat_until(self, ready: Callable[[], bool]) -> None:
        with self._settled:
            in_time = self._settled.wait_for(ready, self.timeout)
        if not in_time:
            self._call_fetch(0)

    def _call_fetch(self, most: int) -> list[Any]:
        idle = int(self._underway == 0)
        arguments = [self.queue_name, self.lease, most, idle]
        reply: list[Any] = self.broker.scripts["fetch"](keys=[self.broker.namespace], args=arguments)
        return reply

    def _fetch(self) -> Work | None:
        mode, next_due_ms, *found = self._call_fetch(self.batch)
        if mode == DRAIN_FIRST:
            self._beat_until(lambda: self._underway == 0)
            return None
        if not found:
            self._wait_for_messages(next_due_ms)
            return None
        batch: list[Message[Any]] = []
        for message_id, data in zip(found[::2], found[1::2], strict=True):
            try:
                message = decode_unopened(data) if self.batch > 1 else Message.decode(data)
                message.options["redis_message_id"] = message_id.decode()  # where it lies, whatever it says itself
            except Exception as error:
                self._quarantine(message_id, data, error)
                continue
            # What failed before, or may have killed a worker, is not mixed with others again.
            alone = self.batch == 1 or mode == SUSPECT or "retries" in message.options
            if alone or (batch and batch[0].actor_name != message.actor_name):
                self._singles.append(Work(self, [message]))
            else:
                batch.append(message)
        return self._hand_out(Work(self, batch)) if batch else None

    def _quarantine(self, message_id: bytes, data: bytes, error: Exception) -> None:
        """Put a message that cannot be read among the dead, and leave its neighbours alone."""
        log.error("unreadable_message", queue=self.queue_name, message_id=message_id.decode(), error=str(error))
        self._finish([], [message_id, data, f"unreadable: {error}"], [1, "dead", 1])

    def _wait_for_messages(self, next_due_ms: int) -> None:
        """Block until the queue has something: moving its head onto itself changes nothing and waits for it."""
        timeout = self.timeout
        if next_due_ms >= 0:
            timeout = min(timeout, next_due_ms / 1000)
        if self._underway:
            # A failed batch comes back to this consumer, not to the queue: look for it often.
            timeout = min(timeout, 0.05)
        # Redis cuts a time-out below a millisecond down to 0, which means for ever.
        timeout = max(timeout, 0.005)
        queue = f"{self.broker.namespace}:{self.queue_name}"
        self.broker.client.blmove(queue, queue, timeout, "LEFT", "LEFT")  # type: ignore[arg-type]

    def ack(self, message: MessageProxy) -> None:
        """Settle a work that went well or is to be tried again: its outbox has what follows.

        A work is settled by the consumer that leased it, which may have been replaced meanwhile.
        """
        work = _as_work(message)
        if work.split:
            work.consumer._singles.extend(Work(work.consumer, [member]) for member in work.members)
        elif not (work.abandoned or work.unhandled):
            work.consumer._finish(work.ids, [], work.outbox.as_arguments())
        work.consumer._let_go()

    def nack(self, message: MessageProxy) -> None:
        """Put a work among the dead, as it is now: with the traceback and the count of its last attempt."""
        work = _as_work(message)
        if work.is_batch:  # of an actor that does not exist: each of its messages is told so by itself
            work.split = True
            self.ack(work)
            return
        error: str = work.options.get("traceback") or repr(work._exception)
        why = error.strip().splitlines()[-1]
        work.outbox.counts["dead"] = 1
        work.consumer._finish([], [work.ids[0], work._message.encode(), why], work.outbox.as_arguments())
        work.consumer._let_go()

    def _finish(self, ids: list[str], dead: list[Any], rest: list[Any]) -> None:
        arguments = [self.queue_name, self.lease, len(ids), *ids, len(dead) // 3, *dead, *rest]
        try:
            self.broker.scripts["finish"](keys=[self.broker.namespace], args=arguments)
        except redis.RedisError as error:
            # Dramatiq calls again until Redis is back; the work stays leased, or runs again elsewhere.
            raise ConnectionClosed(error) from None

    def _let_go(self) -> None:
        with self._settled:
            self._underway -= 1
            self._settled.notify()

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Dramatiq asks for this when it stops; `close` gives everything back at once."""

    def close(self) -> None:
        """Give back what is still leased; when Redis is away the next consumer sees to it, or the lease runs out."""
        try:
            self.broker.scripts["release"](keys=[self.broker.namespace], args=[self.queue_name, self.lease])
        except redis.RedisError as error:
            log.warning("lease_not_released", queue=self.queue_name, error=str(error))
            self.broker.unreleased.append(self)


def current_work() -> Work | None:
    """The work that this thread is processing, if any."""
    message = CurrentMessage.get_current_message()
    return message if isinstance(message, Work) else None


def _as_work(message: MessageProxy) -> Work:
    assert isinstance(message, Work)
    return message

"""Dispatcher that sends what is due in the queues of channels, without a thread for each send.

Each channel with work has one or two tasks (lanes) on the event loop of the HTTP client. A lane claims the next
notification, sends it, records the outcome, and continues until the queue is empty. Statements of PostgreSQL run in
a few threads. A channel of a local kind is processed in the thread of its kind, so it waits for no remote channel.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

import structlog

from actors.channels.attempts import Attempt, Attempts, Outcome, Paused
from actors.channels.wake import try_wake
from actors.transport.middleware import ShutdownRequested, stopping
from notifiers.base import RemoteNotifier, TryAgain, Undeliverable
from notifiers.registry import KINDS

log = structlog.get_logger()

T = TypeVar("T")
#: Number of threads for the statements about remote channels. Channels whose last send failed have a separate thread:
#: many sends can fail at the same time, and their statements must not delay the channels that work.
DATABASE_THREADS, FAILING_THREADS = 2, 1
#: Maximum duration of a wait; afterwards the lane reads the state of the channel again.
MAX_WAIT_SECONDS = 60.0


class _Channel:
    """Lanes of one channel, and the events that make them read the queue again.

    `woken` is set by each wake-up. `pause_ended` is set only by a change of the channel: during a pause, the number of
    statements must not depend on the number of new deliveries.
    """

    def __init__(self) -> None:
        self.lanes: set[asyncio.Task[None]] = set()
        self.woken = asyncio.Event()
        self.pause_ended = asyncio.Event()
        self.is_waiting = False

    def end_waits(self) -> None:
        self.woken.set()
        self.pause_ended.set()


class Dispatcher:
    """Dispatcher of one process; `submit` runs a coroutine on the event loop. No thread starts before a wake-up."""

    def __init__(self, attempts: Attempts, submit: Callable[[Coroutine[Any, Any, Any]], "Future[Any]"]) -> None:
        self._attempts = attempts
        self._submit = submit
        self._stopping = False
        self._channels: dict[UUID, _Channel] = {}
        self._kinds: dict[UUID, str] = {}
        self._failing: set[UUID] = set()
        self._database = ThreadPoolExecutor(DATABASE_THREADS, "channels")
        self._failing_database = ThreadPoolExecutor(FAILING_THREADS, "channels-failing")
        self._local = {name: ThreadPoolExecutor(1, f"channels-{name}") for name in KINDS if KINDS[name].is_local}

    def wake(self, channel_ids: Iterable[UUID], *, ends_pause: bool = False) -> None:
        """Send what is due in the queues of these channels; read the state of paused channels again if `ends_pause`.

        Raises `ShutdownRequested` after `stop`.
        """
        if self._stopping:
            raise ShutdownRequested
        self._submit(self._wake(list(channel_ids), ends_pause))

    def stop(self, seconds: float) -> None:
        """Claim no more notifications, wait for sends in progress, and wake another worker for the remaining work.

        Raises `TimeoutError` after `seconds`; the claims of the sends then expire.
        """
        self._stopping = True
        remaining = self._submit(self._drain()).result(seconds)
        try_wake(remaining)

    async def _wake(self, channel_ids: list[UUID], ends_pause: bool) -> None:
        for channel_id in channel_ids:
            channel = self._channels.setdefault(channel_id, _Channel())
            channel.woken.set()
            if ends_pause:
                channel.pause_ended.set()
            if not channel.lanes:
                self._start_lane(channel_id, channel)

    async def _drain(self) -> list[UUID]:
        channels = dict(self._channels)
        for channel in channels.values():
            channel.end_waits()
        lanes = [lane for channel in channels.values() for lane in channel.lanes]
        await asyncio.gather(*lanes, return_exceptions=True)
        return list(channels)

    def _start_lane(self, channel_id: UUID, channel: _Channel) -> None:
        lane = asyncio.ensure_future(self._run(channel_id, channel))
        channel.lanes.add(lane)
        lane.add_done_callback(lambda done: self._end_lane(channel_id, channel, done))

    def _end_lane(self, channel_id: UUID, channel: _Channel, lane: "asyncio.Task[None]") -> None:
        channel.lanes.discard(lane)
        error = lane.exception()
        if error and not isinstance(error, ShutdownRequested):
            # The scheduler wakes the channel later: an immediate restart could repeat the error without a pause.
            log.error("channel_stopped", channel_id=str(channel_id), error=repr(error))
        if channel.lanes:
            return
        if channel.woken.is_set() and not (error or self._stopping):
            self._start_lane(channel_id, channel)
        else:
            del self._channels[channel_id]

    async def _run(self, channel_id: UUID, channel: _Channel) -> None:
        while not (self._stopping or stopping.is_set()):
            channel.woken.clear()
            channel.pause_ended.clear()
            claimed = await self._in_thread(self._pool(channel_id), self._attempts.claim, channel_id)
            if isinstance(claimed, list):
                self._kinds[channel_id] = claimed[0].channel.kind
                self._start_second_lane(channel_id, channel, claimed[0])
                await self._carry_out(claimed)
            elif claimed is None:
                return
            elif channel.is_waiting:
                channel.end_waits()  # the other lane waits for a time that may be too long now
                return
            elif isinstance(claimed, Paused):
                await self._wait(channel, channel.pause_ended, claimed.seconds)
            else:
                await self._wait(channel, channel.woken, claimed)

    def _start_second_lane(self, channel_id: UUID, channel: _Channel, attempt: Attempt) -> None:
        is_alone = attempt.condition.sends_alone or attempt.channel.kind in self._local
        if not is_alone and len(channel.lanes) < self._attempts.limits.concurrent_sends:
            self._start_lane(channel_id, channel)

    async def _wait(self, channel: _Channel, event: asyncio.Event, seconds: float) -> None:
        channel.is_waiting = True
        try:
            await asyncio.wait_for(event.wait(), min(seconds + 0.001, MAX_WAIT_SECONDS))
        except TimeoutError:
            pass
        finally:
            channel.is_waiting = False

    async def _carry_out(self, attempts: list[Attempt]) -> None:
        """Send claimed notifications and record the outcomes."""
        if pool := self._local.get(attempts[0].channel.kind):
            await self._in_thread(pool, self._send_and_record, attempts)
        else:
            outcomes = [(attempt, await self._send(attempt)) for attempt in attempts]
            self._note_outcome(*outcomes[0])
            await self._in_thread(self._pool(attempts[0].channel.channel_id), self._attempts.record, outcomes)

    def _note_outcome(self, attempt: Attempt, outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            self._failing.add(attempt.channel.channel_id)
        else:
            self._failing.discard(attempt.channel.channel_id)

    async def _send(self, attempt: Attempt) -> Outcome:
        try:
            notifier = self._attempts.notifiers[attempt.channel.kind]
            assert isinstance(notifier, RemoteNotifier)
            return await notifier.send_async(attempt.notification, attempt.channel.settings)
        except Exception as error:
            return _logged(error, attempt)

    def _send_and_record(self, attempts: list[Attempt]) -> None:
        self._attempts.record([(attempt, self._send_now(attempt)) for attempt in attempts])

    def _send_now(self, attempt: Attempt) -> Outcome:
        try:
            notifier = self._attempts.notifiers[attempt.channel.kind]
            return notifier.send(attempt.notification, attempt.channel.settings)
        except Exception as error:
            return _logged(error, attempt)

    def _pool(self, channel_id: UUID) -> ThreadPoolExecutor:
        remote = self._failing_database if channel_id in self._failing else self._database
        return self._local.get(self._kinds.get(channel_id, ""), remote)

    async def _in_thread(self, pool: ThreadPoolExecutor, step: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, step, *arguments)


def _logged(error: Exception, attempt: Attempt) -> Exception:
    """Return the exception of a notifier; log its traceback if it is not one of the documented exceptions."""
    if not isinstance(error, TryAgain | Undeliverable):
        log.error("notifier_failed", channel=attempt.channel.name, exc_info=error)
    return error

"""Dramatiq middleware that keeps the transport lossless, and the signal that the worker is stopping."""

import threading
from typing import Any

import dramatiq
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware, Retries

#: Set while this worker stops. Waits that can be long end when it is set.
stopping = threading.Event()


class ShutdownRequested(Exception):
    """The worker stops while it waits for a server: the messages go back to their queue as they are."""


class ShutdownSignal(Middleware):
    """Ends the waiting of `retry_on_outage` when the worker is told to stop."""

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        stopping.clear()

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        stopping.set()


class BatchRetries(Retries):
    """Retries one message at a time: a failed batch is taken apart first, an interrupted one goes back whole."""

    def after_process_message(
        self, broker: Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if exception is None:
            return
        if isinstance(exception, ShutdownRequested):
            message.interrupted = True
        elif message.is_batch:
            message.needs_split = True
        else:
            super().after_process_message(broker, message, exception=exception)  # type: ignore[no-untyped-call]


class DiscardOutboxOnFailure(Middleware):
    """Voids what a failed attempt wanted to send (see `actors.transport.outbox`), before its retry is sent."""

    def after_process_message(
        self, broker: Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if exception is not None:
            message.outbox.clear()

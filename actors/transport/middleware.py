"""Dramatiq middleware that prevents the loss of messages, and the signal that the worker is stopping."""

import threading
from typing import Any

import dramatiq
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware, Retries

#: Flag that is set while the worker stops, so that waits for servers end and consumers lease no more messages.
stopping = threading.Event()


class ShutdownRequested(Exception):
    """Raised when the worker stops while a step waits for a server; the messages are released unchanged."""


class ShutdownSignal(Middleware):
    """Middleware that sets `stopping` while the worker stops."""

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        stopping.clear()

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        stopping.set()

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        stopping.clear()


class BatchRetries(Retries):
    """Middleware that retries single messages, isolates failed batches, and releases interrupted batches unchanged."""

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
    """Middleware that discards the outbox of a failed attempt, before the retry is added to the outbox."""

    def after_process_message(
        self, broker: Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if exception is not None:
            message.outbox.clear()

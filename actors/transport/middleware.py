"""Dramatiq middleware that keeps the transport lossless, and the signal that the worker is stopping."""

import threading
from typing import Any

import dramatiq
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware, Retries

#: Set while the worker stops: long waits end, and consumers lease nothing more.
stopping = threading.Event()


class ShutdownRequested(Exception):
    """The worker stops while a step waits for a server; the messages return to their queue unchanged."""


class ShutdownSignal(Middleware):
    """Sets `stopping` while the worker stops."""

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        stopping.clear()

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        stopping.set()

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        stopping.clear()


class BatchRetries(Retries):
    """Retries for single messages: a failed batch is split first, an interrupted batch is released unchanged."""

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
    """Discards the outbox of a failed attempt, before its retry is added to the outbox."""

    def after_process_message(
        self, broker: Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if exception is not None:
            message.outbox.clear()

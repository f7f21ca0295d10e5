"""What keeps Dramatiq lossless here: middleware, and the patience with servers that are away."""

import threading
from collections.abc import Callable, Iterator
from functools import wraps
from random import uniform
from typing import Any, ParamSpec, TypeVar

import dramatiq
import structlog
from dramatiq.broker import Broker
from dramatiq.middleware import Middleware, Retries
from structlog.contextvars import bind_contextvars, clear_contextvars

from actors.messages import event_id_of
from actors.transport import is_away
from actors.work import current_work
from models.database import is_outage

log = structlog.get_logger()

P = ParamSpec("P")
R = TypeVar("R")
LONGEST_PAUSE_SECONDS = 5.0

_stopping = threading.Event()


class Interrupted(Exception):
    """The worker stops while it waits for a server: the messages go back to their queue as they are."""


def through_outages(step: Callable[P, R]) -> Callable[P, R]:
    """Hold on to the work while Redis or PostgreSQL is away, and do it when it is back.

    An outage is nobody's fault: it uses up no retries, and it does not split a batch. Raises `Interrupted`
    when the worker stops meanwhile.
    """

    @wraps(step)
    def patiently(*args: P.args, **kwargs: P.kwargs) -> R:
        pauses = _pauses()
        while True:
            try:
                return step(*args, **kwargs)
            except Exception as error:
                if not (is_away(error) or is_outage(error)):
                    raise
                if work := current_work():
                    work.outbox.clear()  # the next attempt sends it again
                pause = next(pauses)
                log.warning(
                    "server_away", step=step.__name__, error=type(error).__name__, retry_in_seconds=round(pause, 1)
                )
                if _stopping.wait(pause):
                    raise Interrupted from error

    return patiently


def _pauses() -> Iterator[float]:
    """Exponential backoff with full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/"""
    ceiling = 0.1
    while True:
        yield uniform(ceiling / 2, ceiling)  # noqa: S311 - spreads load, keeps no secret
        ceiling = min(ceiling * 2, LONGEST_PAUSE_SECONDS)


class Stopping(Middleware):
    """Ends the waiting of `through_outages` when the worker is told to stop."""

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        _stopping.clear()

    def before_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        _stopping.set()


class PatientRetries(Retries):
    """Retries one message at a time: a failed batch is taken apart first, an interrupted one goes back whole."""

    def after_process_message(
        self, broker: Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if exception is None:
            return
        if isinstance(exception, Interrupted):
            message.abandoned = True
        elif message.is_batch:
            message.split = True
        else:
            super().after_process_message(broker, message, exception=exception)  # type: ignore[no-untyped-call]


class Transactional(Middleware):
    """Voids what a failed attempt wanted to send (see `actors.outbox`), before its retry is sent."""

    def after_process_message(
        self, broker: Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if exception is not None:
            message.outbox.clear()


class LogContext(Middleware):
    """Every line that is logged about a message carries its ids."""

    def before_process_message(self, broker: Broker, message: Any) -> None:
        clear_contextvars()
        if not message.is_batch:
            ids = {
                "message_id": message.message_id,
                "request_id": message.options.get("request_id"),
                "event_id": event_id_of(message),
            }
            bind_contextvars(**{name: value for name, value in ids.items() if value})

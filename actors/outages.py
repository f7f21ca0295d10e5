"""Retry of a pipeline step while Redis or PostgreSQL is unavailable."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import structlog

from actors.transport.batch import current_batch
from actors.transport.middleware import ShutdownRequested, stopping
from actors.transport.redis_broker import is_unavailable
from eventpulse.backoff import backoff_seconds
from models.database import is_outage

log = structlog.get_logger()

P = ParamSpec("P")
R = TypeVar("R")
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.1, 5.0


def retry_on_outage(step: Callable[P, R]) -> Callable[P, R]:
    """Return a function that repeats the step until Redis and PostgreSQL are available.

    An outage uses no retry of the message and does not split the batch. Messages and counts that a failed attempt added
    to the outbox are removed; earlier messages and counts remain. The returned function raises `ShutdownRequested` if
    the worker stops during a wait.
    """

    @wraps(step)
    def retry(*args: P.args, **kwargs: P.kwargs) -> R:
        outbox = batch.outbox if (batch := current_batch()) else None
        mark = outbox.mark() if outbox else None
        failures = 0
        while True:
            try:
                return step(*args, **kwargs)
            except Exception as error:
                server = _unavailable_server(error)
                if server is None:
                    raise
                if outbox and mark:
                    outbox.rollback(mark)
                failures += 1
                pause = backoff_seconds(failures, FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
                _log_outage(server, step.__name__, error, pause)
                if stopping.wait(pause):
                    raise ShutdownRequested from error

    return retry


def _unavailable_server(error: Exception) -> str | None:
    if is_unavailable(error):
        return "redis"
    return "postgresql" if is_outage(error) else None


def _log_outage(server: str, step: str, error: Exception, pause: float) -> None:
    log.warning(f"{server}_unavailable", step=step, error=type(error).__name__, retry_in_seconds=round(pause, 1))

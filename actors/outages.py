"""Retry of a pipeline step while Redis or PostgreSQL is unavailable."""

from collections.abc import Callable, Iterator
from functools import wraps
from random import uniform
from typing import ParamSpec, TypeVar

import structlog

from actors.transport.batch import current_batch
from actors.transport.middleware import ShutdownRequested, stopping
from actors.transport.redis_broker import is_unavailable
from models.database import is_outage

log = structlog.get_logger()

P = ParamSpec("P")
R = TypeVar("R")
MAX_PAUSE_SECONDS = 5.0


def retry_on_outage(step: Callable[P, R]) -> Callable[P, R]:
    """Hold on to the work while Redis or PostgreSQL is away, and do it when it is back.

    An outage is nobody's fault: it uses up no retries, and it does not split a batch. Raises `ShutdownRequested`
    when the worker stops meanwhile.
    """

    @wraps(step)
    def patiently(*args: P.args, **kwargs: P.kwargs) -> R:
        pauses = _pauses()
        while True:
            try:
                return step(*args, **kwargs)
            except Exception as error:
                if not (is_unavailable(error) or is_outage(error)):
                    raise
                if batch := current_batch():
                    batch.outbox.clear()  # the next attempt sends it again
                pause = next(pauses)
                log.warning(
                    "server_away", step=step.__name__, error=type(error).__name__, retry_in_seconds=round(pause, 1)
                )
                if stopping.wait(pause):
                    raise ShutdownRequested from error

    return patiently


def _pauses() -> Iterator[float]:
    """Exponential backoff with full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/"""
    ceiling = 0.1
    while True:
        yield uniform(ceiling / 2, ceiling)  # noqa: S311 - spreads load, keeps no secret
        ceiling = min(ceiling * 2, MAX_PAUSE_SECONDS)

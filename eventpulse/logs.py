"""One way to log for every process and library: JSON lines for machines, colours for people, never a password."""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from eventpulse.masking import masked

#: Libraries whose "info" is one line for each thing they do.
CHATTY = ("apscheduler", "asyncio", "httpcore", "httpx", "websockets")


def configure(level: str, format: str) -> None:
    """Send every log record of this process to stderr, ours and the libraries' alike.

    `level` is debug, info, warning or error; `format` is json, console, or auto: console when
    stderr is a terminal. Context bound by `structlog.contextvars` (request_id, event_id,
    message_id) is part of each record, and times are UTC.
    """
    times = "%H:%M:%SZ" if resolved(format) == "console" else "iso"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt=times, utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(foreign_pre_chain=shared, processors=_renderers(format)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def resolved(format: str) -> str:
    """`auto` decided: console when stderr is a terminal, else json."""
    if format != "auto":
        return format
    return "console" if sys.stderr.isatty() else "json"


def colours() -> bool:
    """Whether stderr may be coloured. `FORCE_COLOR` speaks for a terminal that is behind a pipe."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stderr.isatty()


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Masks the finished line, so that tracebacks and nested values are covered too."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def _renderers(format: str) -> list[structlog.typing.Processor]:
    forget = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if resolved(format) == "console":
        # Not rich's tracebacks: they print local variables.
        plain = structlog.dev.plain_traceback
        return [forget, structlog.dev.ConsoleRenderer(colors=colours(), exception_formatter=plain)]
    return [forget, _add_pid, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _add_pid(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["pid"] = os.getpid()
    return event

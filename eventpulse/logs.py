"""Log configuration of every process: JSON lines or console lines on stderr, with secrets masked.

Unprintable characters are escaped in both formats: a path or a name could otherwise control the operator's terminal.
"""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from eventpulse.masking import masked
from eventpulse.visible_text import visible

#: Libraries whose records below the level "warning" are not logged, because they log every operation.
VERBOSE_LIBRARIES = ("apscheduler", "asyncio", "httpcore", "httpx", "websockets")


def configure(level: str, format: str) -> None:
    """Write the log records of this process to stderr, including the records of libraries.

    `level` is the minimum level: debug, info, warning or error. `format` is json, console or auto; see
    `resolve_format`. Each record contains the values that are bound with `structlog.contextvars`, such as request_id
    and event_id. Times are in UTC.
    """
    times = "%H:%M:%SZ" if resolve_format(format) == "console" else "iso"
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt=times, utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_MaskingFormatter(foreign_pre_chain=shared, processors=_renderers(format)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for name in VERBOSE_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def resolve_format(format: str) -> str:
    """Return "json" or "console"; "auto" is "console" if stderr is a terminal, otherwise "json"."""
    if format != "auto":
        return format
    return "console" if sys.stderr.isatty() else "json"


def use_colour(stream: TextIO) -> bool:
    """Return whether to write colours to `stream`.

    The variable NO_COLOR disables colours; otherwise FORCE_COLOR enables colours. If both are unset, colours are
    written only to a terminal. See https://no-color.org and https://force-color.org.
    """
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


class _MaskingFormatter(structlog.stdlib.ProcessorFormatter):
    """Formatter that masks secrets in the complete line, including tracebacks and nested values."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def _renderers(format: str) -> list[structlog.typing.Processor]:
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if resolve_format(format) == "console":
        # The console renderer would also print the local variables of a traceback, which may contain secrets.
        format_traceback = structlog.processors.format_exc_info
        return [remove_meta, format_traceback, _escape, structlog.dev.ConsoleRenderer(colors=use_colour(sys.stderr))]
    return [remove_meta, _add_pid, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _escape(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape the unprintable characters in the texts of a record; JSON and `repr` escape them in other values.

    The renderer quotes values with white space, so that only the text of the event could forge a line.
    """
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = visible(value, keep="" if name == "event" else "\n\t")
    return event


def _add_pid(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["pid"] = os.getpid()
    return event

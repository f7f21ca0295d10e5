"""Limit of the log lines that clients can cause: a sample of the lines, and one line with the number of the others."""

import logging
import threading
from dataclasses import dataclass
from time import monotonic
from typing import Any

import structlog

#: Maximum number of lines with the same labels in `PERIOD_SECONDS`.
LINES = 10
PERIOD_SECONDS = 1.0

Labels = tuple[tuple[str, Any], ...]

log = structlog.get_logger()


@dataclass(slots=True)
class _Period:
    end: float
    lines: int = 0


class LogSampler:
    """Sampler of log lines: `LINES` lines with the same labels are logged in a period, and the others are counted.

    At the end of a period with omitted lines, the log event `log_lines_omitted` has their labels and their number.
    There must be few different labels, such as one for each HTTP status.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._periods: dict[Labels, _Period] = {}

    def admits(self, **labels: Any) -> bool:
        """Count a line with these labels; return whether to log it."""
        key = tuple(labels.items())
        with self._lock:
            now = monotonic()
            period = self._periods.get(key)
            if period is None or (now >= period.end and period.lines <= LINES):
                period = self._periods[key] = _Period(now + PERIOD_SECONDS)
            period.lines += 1
            lines = period.lines
        if lines == LINES + 1:
            self._report_later(key, max(period.end - now, 0.0))
        return lines <= LINES

    def _report_later(self, key: Labels, seconds: float) -> None:
        """Start a timer; without it, the last omitted lines of a burst would not be reported.

        The caller must not hold the lock: with gevent, the start of a thread runs other greenlets.
        """
        timer = threading.Timer(seconds, self._report, [key])
        timer.daemon = True
        timer.start()

    def _report(self, key: Labels) -> None:
        structlog.contextvars.clear_contextvars()  # a greenlet inherits the request_id of the request that started it
        with self._lock:
            omitted = self._periods.pop(key).lines - LINES
        log.info("log_lines_omitted", lines=omitted, **dict(key))


class SamplingFilter(logging.Filter):
    """Filter for the logger of a server library, which logs a line for each invalid request."""

    def __init__(self) -> None:
        super().__init__()
        self._sampler = LogSampler()

    def filter(self, record: logging.LogRecord) -> bool:
        return self._sampler.admits(of=record.name)

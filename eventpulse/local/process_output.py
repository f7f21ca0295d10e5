"""What a person sees of many processes in one terminal: every line under the name of its process."""

import sys
import threading
from contextlib import suppress
from typing import TextIO

import structlog

COLOURS = {"api": "36", "live": "34", "scheduler": "35", "redis": "31", "postgres": "33"}
WORKER_COLOUR = "32"
WIDTH = 10

log = structlog.get_logger("eventpulse.local.supervisor")


class ProcessOutput:
    """Writes whole lines from many threads. With `tagged` off, lines pass unchanged: JSON must stay JSON."""

    def __init__(self, *, tagged: bool, coloured: bool) -> None:
        self._tagged = tagged
        self._coloured = coloured
        self._lock = threading.Lock()

    def line(self, name: str, stream: TextIO, text: str) -> None:
        """A line that the process wrote."""
        if self._tagged:
            text = f"{self._tag(name)} {text}"
        with self._lock, suppress(OSError, ValueError):  # our reader may be gone; the process must not block on it
            stream.write(f"{text}\n")
            stream.flush()

    def state(self, name: str, text: str) -> None:
        """A change of the process's state."""
        if self._tagged:
            self.line(name, sys.stderr, self._paint(text, "1"))
        else:
            log.info(text, process=name)

    def _tag(self, name: str) -> str:
        return self._paint(f"{name:<{WIDTH}}│", COLOURS.get(name, WORKER_COLOUR))

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text

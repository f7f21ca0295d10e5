"""Output of several processes in one terminal, each line with the name of its process."""

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
    """Writer of whole lines from several threads. JSON lines must be written with `labelled=False` to stay valid."""

    def __init__(self, *, labelled: bool, coloured: bool) -> None:
        self._labelled = labelled
        self._coloured = coloured
        self._lock = threading.Lock()

    def line(self, name: str, stream: TextIO, text: str) -> None:
        """Write a line of the process `name` to `stream`."""
        if self._labelled:
            text = f"{self._label(name)} {text}"
        # EventPulse must continue even if the process that reads its output has exited.
        with self._lock, suppress(OSError, ValueError):
            stream.write(f"{text}\n")
            stream.flush()

    def state(self, name: str, text: str) -> None:
        """Report a change of the state of the process `name`."""
        if self._labelled:
            self.line(name, sys.stderr, self._paint(text, "1"))
        else:
            log.info(text, process=name)

    def _label(self, name: str) -> str:
        return self._paint(f"{name:<{WIDTH}}│", COLOURS.get(name, WORKER_COLOUR))

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text

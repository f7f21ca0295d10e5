"""Output of several processes in one terminal, each line with the name of its process."""

import re
import sys
import threading
from contextlib import suppress
from typing import TextIO

import structlog

from eventpulse.visible_text import visible

COLOURS = {"api": "36", "live": "34", "scheduler": "35", "redis": "31", "postgres": "33"}
WORKER_COLOUR = "32"
WIDTH = 10
#: Escape sequence of a colour or another style, which processes write if colours are enabled.
STYLE = re.compile(r"(\x1b\[[0-9;]*m)")

log = structlog.get_logger("eventpulse.local.supervisor")


class ProcessOutput:
    """Writer of whole lines from several threads. JSON lines must be written with `labelled=False` to stay valid."""

    def __init__(self, *, labelled: bool, coloured: bool) -> None:
        self._labelled = labelled
        self._coloured = coloured
        self._lock = threading.Lock()

    def line(self, name: str, stream: TextIO, text: str) -> None:
        """Write a line of the process `name` to `stream`, with unprintable characters escaped.

        A traceback that Python writes is not escaped, and may contain text of a client.
        """
        text = self._escaped(text)
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

    def _escaped(self, text: str) -> str:
        if not self._coloured:
            return visible(text, keep="\t")
        return "".join(part if STYLE.fullmatch(part) else visible(part, keep="\t") for part in STYLE.split(text))

    def _label(self, name: str) -> str:
        return self._paint(f"{name:<{WIDTH}}│", COLOURS.get(name, WORKER_COLOUR))

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text

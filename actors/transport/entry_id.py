"""Ids of queue entries, and the random part that makes ids unique to this process."""

import os
import re
import secrets
from collections.abc import Iterable
from itertools import count
from typing import NamedTuple

_PATTERN = re.compile(r"(?:(\d+)\.)?(\d+)\*(.*)", re.DOTALL)
_numbers = count()
_process_id = ""


def _generate_process_id() -> None:
    global _process_id
    _process_id = secrets.token_hex(12)


_generate_process_id()
# A forked process has a copy of its parent's memory; without a new random part it would generate the same ids.
os.register_at_fork(after_in_child=_generate_process_id)


def process_id() -> str:
    """Return the id of this process: 96 random bits, in hexadecimal. A forked process has another id."""
    return _process_id


def new_id() -> str:
    """Return an id that is unique among all processes. Makes no system call."""
    return f"{_process_id}{next(_numbers):x}"


class EntryId(NamedTuple):
    """Parsed id of a queue entry.

    `9f3c` is one message, `100*9f3c` a bundle of 100 messages, and `7.100*9f3c` the 7th message of that bundle after
    the bundle was split. `scripts/prelude.lua` reads the same format.
    """

    name: str
    bundle_size: int | None = None
    position: int | None = None

    @classmethod
    def parse(cls, text: str) -> "EntryId":
        """Return the parsed id. Any text is valid: text without the format of a bundle is the id of one message."""
        match = _PATTERN.fullmatch(text)
        if match is None:
            return cls(text)
        position, bundle_size, name = match.groups()
        return cls(name, int(bundle_size), None if position is None else int(position))

    @property
    def is_bundle(self) -> bool:
        return self.bundle_size is not None and self.position is None

    @property
    def size(self) -> int:
        """Number of messages in the entry."""
        return self.bundle_size if self.bundle_size is not None and self.position is None else 1

    def part(self, position: int) -> "EntryId":
        """Return the id of the message at `position`, counted from 1, after this bundle was split."""
        return self._replace(position=position)

    def __str__(self) -> str:
        place = "" if self.position is None else f"{self.position}."
        return self.name if self.bundle_size is None else f"{place}{self.bundle_size}*{self.name}"


def completed_bundles(entry_ids: Iterable[str]) -> list[str]:
    """Return `entry_ids`; the id of the only message of a bundle is replaced with the id of the bundle.

    A message of a larger bundle keeps its own id, because other messages of the bundle may not be processed yet.
    """
    ids = map(EntryId.parse, entry_ids)
    return [str(each._replace(position=None) if each.bundle_size == 1 else each) for each in ids]

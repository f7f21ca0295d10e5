"""How a command ended."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """The exit code of a command, and what it wrote."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]

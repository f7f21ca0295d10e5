"""Wait for a condition, not for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float = 10) -> T:
    """Ask again and again until the answer is true, and return it; fails when that takes too long."""
    deadline = time.monotonic() + seconds
    pause = 0.005
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return answer

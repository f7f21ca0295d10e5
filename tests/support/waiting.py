"""Polling of a condition, in place of a wait for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float = 10) -> T:
    """Poll `condition` until its result is true, and return the result. Raises `AssertionError` after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = 0.005
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return result

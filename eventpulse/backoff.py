"""Exponential backoff with jitter."""

from random import uniform


def backoff_seconds(failures: int, first: float, longest: float) -> float:
    """Return the pause after `failures` failed attempts, with jitter. Its ceiling doubles from `first` up to `longest`.

    The result is uniform between half the ceiling and the ceiling ("equal jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), so that clients that failed together
    do not retry together.
    """
    ceiling = min(longest, first * 2.0 ** min(max(failures - 1, 0), 30))
    return uniform(ceiling / 2, ceiling)  # noqa: S311 - spreads load, protects no secret

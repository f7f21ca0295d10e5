"""Exponential backoff with jitter."""

from random import uniform


def backoff_seconds(failures: int, first: float, longest: float) -> float:
    """Return the pause in seconds, with jitter, after `failures` failed attempts.

    The ceiling of the pause doubles with each failure, from `first` up to `longest` seconds. The pause is uniform
    between half the ceiling and the ceiling, so that clients that failed together do not retry together ("equal
    jitter", https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    ceiling = min(longest, first * 2.0 ** min(max(failures - 1, 0), 30))
    return uniform(ceiling / 2, ceiling)  # noqa: S311 - not for security

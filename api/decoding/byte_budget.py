"""Budget for the memory of the request bodies that a process reads or processes."""

from types import TracebackType
from typing import Self

from api import problems

#: Number of bytes of each body that do not count, so that large bodies cannot cause the rejection of small ones.
FREE_BYTES = 64 * 1024


class ByteBudget:
    """Number of bytes that all request bodies of a process together may have, without the first `FREE_BYTES` of each.

    Not safe for threads; greenlets switch only when they wait.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.reserved = 0


class Reservation:
    """Part of a budget that is reserved for one body during a `with` block."""

    __slots__ = ("_budget", "_bytes")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._bytes = 0

    def grow(self, body_bytes: int) -> None:
        """Reserve the bytes for a body of `body_bytes`, in addition to the bytes that are reserved already.

        Raises `problems.Problem` with status 503 if the budget is exceeded.
        """
        more = body_bytes - FREE_BYTES - self._bytes
        if more <= 0:
            return
        if self._budget.reserved + more > self._budget.max_bytes:
            raise problems.unavailable(
                "The request bodies in progress use the whole EVENTPULSE_MAX_BODY_BYTES_IN_FLIGHT"
            )
        self._budget.reserved += more
        self._bytes += more

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._budget.reserved -= self._bytes
        self._bytes = 0

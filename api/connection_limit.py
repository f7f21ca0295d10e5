"""Limit of the requests that use PostgreSQL at the same time, with a bounded wait."""

import threading
from collections import deque

#: Maximum time that a request waits, and maximum number of requests that wait for the same limit.
WAIT_SECONDS = 1.0
MAX_WAITING = 100


class ConnectionLimit:
    """Limit of concurrent requests; further requests wait in the order of their arrival."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @property
    def is_reached(self) -> bool:
        """Return whether the next request has to wait."""
        return not self._free

    def acquire(self) -> bool:
        """Wait until the request may use a connection, at most `WAIT_SECONDS`; return whether it may.

        Return False without a wait if `MAX_WAITING` requests wait already. After True, the caller must call `release`.
        """
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            if len(self._waiting) >= MAX_WAITING:
                return False
            granted = threading.Event()
            self._waiting.append(granted)
        return granted.wait(WAIT_SECONDS) or self._withdraw(granted)

    def release(self) -> None:
        """End the use of a connection, and grant it to the request that has waited for the longest time."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1

    def _withdraw(self, granted: threading.Event) -> bool:
        """End the wait of a request; return True if `release` has granted it a connection in the meantime."""
        with self._lock:
            if not granted.is_set():
                self._waiting.remove(granted)
            return granted.is_set()

"""Time slices of long computations, so that the other requests of the process are not delayed."""

import threading
import time

#: Maximum time in seconds for which a long computation lets no other request run.
SLICE_SECONDS = 0.005

#: Lock of computations that use more than one time slice. One of them runs at a time: otherwise other requests would
#: wait for a slice of each.
LONG_COMPUTATION = threading.Lock()


class TimeSlice:
    """Current time slice of a computation, which starts when the object is created."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SLICE_SECONDS

    def check(self) -> None:
        """If the time slice has ended, run other requests that are ready, and start a new one."""
        if time.monotonic() > self._end:
            time.sleep(0)  # with the monkey patch of gevent, a switch to other greenlets
            self._end = time.monotonic() + SLICE_SECONDS

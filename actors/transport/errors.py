"""Errors of the transport that its callers handle."""


class QueueUnavailable(Exception):
    """Messages are rejected at the moment. `retry_after` is the number of seconds to wait before the next attempt."""

    def __init__(self, reason: str, retry_after: float) -> None:
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(reason)

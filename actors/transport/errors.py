"""Errors of the transport that its callers handle."""


class QueueUnavailable(Exception):
    """Raised when the queue rejects messages; the caller may try again after `retry_after` seconds."""

    def __init__(self, reason: str, retry_after: float) -> None:
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(reason)

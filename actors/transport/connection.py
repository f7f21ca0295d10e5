"""What a consumer needs of its broker."""

from typing import Any, Protocol

import redis


class QueueConnection(Protocol):
    """The broker, as its consumers use it.

    unreleased_consumers: closed consumers that could not release their leases because Redis was unavailable.
    """

    namespace: str
    client: redis.Redis
    unreleased_consumers: list[Any]

    @property
    def worker_id(self) -> str:
        """Id of this process in the names of its leases."""

    def run_script(self, name: str, *arguments: Any) -> Any:
        """Run a queue script and return its reply. Raises `redis.RedisError`."""

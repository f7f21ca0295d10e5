"""Interface of the broker for its consumers."""

from typing import Any, Protocol

import redis


class QueueConnection(Protocol):
    """Part of the broker that consumers use.

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

"""The whole pipeline in this process, over real servers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import dramatiq
import pytest
import redis

import actors
from eventpulse.settings import Settings

StartWorker = Callable[[], dramatiq.Worker]


@pytest.fixture
def pipeline(redis_url: str, redis_client: redis.Redis, empty_database: str) -> redis.Redis:
    """The actors at an empty Redis and an empty database; no worker runs yet."""
    actors.setup(Settings(redis_url=redis_url, database_url=empty_database), name="tests")
    return redis_client


@pytest.fixture
def start_worker(pipeline: redis.Redis) -> Iterator[StartWorker]:
    with ExitStack() as stack:

        def start() -> dramatiq.Worker:
            worker = dramatiq.Worker(actors.broker, worker_threads=8, worker_timeout=50)
            worker.start()
            stack.callback(worker.stop, 5_000)
            return worker

        yield start

"""Fixtures for tests of queues: the actors of EventPulse, or a broker whose actors the test declares."""

from collections.abc import Iterator
from contextlib import ExitStack

import dramatiq
import pytest
import redis
from support.broker_factory import StartWorker, make_broker

from actors import runtime
from actors.broker import broker as product_broker
from actors.transport.redis_broker import RedisBroker
from eventpulse.settings import ConnectedSettings


@pytest.fixture
def pipeline(redis_url: str, redis_client: redis.Redis, empty_database: str) -> Iterator[redis.Redis]:
    """Connect the actors to an empty Redis and an empty database; return a Redis client. No worker runs yet."""
    bound = runtime.setup(ConnectedSettings(redis_url=redis_url, database_url=empty_database), name="tests")
    yield redis_client
    bound.dispatcher.stop(15)


@pytest.fixture
def broker(redis_url: str, redis_client: redis.Redis) -> RedisBroker:
    """Return a broker without actors, with an empty Redis."""
    return make_broker(redis_url)


@pytest.fixture
def start_worker() -> Iterator[StartWorker]:
    """Return a function that starts a worker, by default for the actors of EventPulse.

    The workers are stopped after the test.
    """
    with ExitStack() as stack:

        def start(broker: RedisBroker = product_broker) -> dramatiq.Worker:
            worker = dramatiq.Worker(broker, worker_threads=8, worker_timeout=50)
            worker.start()
            stack.callback(worker.stop, 5_000)
            return worker

        yield start

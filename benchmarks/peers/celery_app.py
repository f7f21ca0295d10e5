"""Celery on Redis with the same guarantee as EventPulse (at least once): one task and one INSERT per event."""

import json
import os
from collections.abc import Sequence
from typing import Any

from celery import Celery
from servers import Servers

from peers import row

WORKER = ["peers.celery_app"]
SETTINGS: dict[str, str] = {}
# Fastest of the measured options: prefork with 1, 2 and 4 processes, 2, 4 and 8 threads, and solo.
OPTIONS = ["--pool=prefork", "--concurrency=2", "--loglevel=ERROR"]
OPTIONS += ["--without-gossip", "--without-mingle", "--without-heartbeat"]  # not needed by a single worker

app = Celery("peers", set_as_current=False)
app.conf.update(
    task_acks_late=True,  # an event acknowledged before it is stored could be lost
    task_ignore_result=True,
    worker_prefetch_multiplier=100,
)


@app.task(name="store")
def store(event: dict[str, Any]) -> None:
    row.store(event)


def connect(url: str) -> None:
    """Set the URL of Redis. For Unix sockets, Celery and redis-py use different URL schemes."""
    app.conf.broker_url = url.replace("unix://", "redis+socket://", 1)


def fill(servers: Servers, events: Sequence[bytes]) -> None:
    """Queue the events one by one, on one connection."""
    connect(servers.redis_url)
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for event in events:
            store.apply_async((json.loads(event),), producer=producer)


def main() -> None:
    connect(os.environ["REDIS_URL"])
    app.worker_main(["worker", *OPTIONS])


if __name__ == "__main__":
    main()

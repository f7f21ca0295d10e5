"""Typical Redis Streams consumer, which reads 100 entries at a time, and stores and acknowledges each entry."""

import json
import os
from collections.abc import Sequence
from typing import Any

import redis
from servers import Servers

from peers import row

WORKER = ["peers.streams"]
SETTINGS: dict[str, str] = {}
STREAM, GROUP, CONSUMER = "events", "storing", "one"
READ = 100
PIPELINE = 1_000


def fill(servers: Servers, events: Sequence[bytes]) -> None:
    """Append the events to the stream, `PIPELINE` events per round trip."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        for start in range(0, len(events), PIPELINE):
            with client.pipeline(transaction=False) as pipeline:
                for event in events[start : start + PIPELINE]:
                    pipeline.xadd(STREAM, {"event": event})
                pipeline.execute()


def main() -> None:
    client = redis.Redis.from_url(os.environ["REDIS_URL"], protocol=2)  # RESP2: with RESP3 the reply is a mapping
    while True:
        answer: Any = client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=READ, block=5_000)
        for _, entries in answer:
            for entry, fields in entries:
                row.store(json.loads(fields[b"event"]))
                client.xack(STREAM, GROUP, entry)


if __name__ == "__main__":
    main()

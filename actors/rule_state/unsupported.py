"""Reports of rules that a worker skips because its version does not support them."""

import contextlib
from typing import Any

import msgspec
import redis

from actors.transport import queues
from actors.transport.redis_broker import RedisBroker
from eventpulse import __version__
from eventpulse.redis_keys import KEY_PREFIX

#: Hash of worker id -> JSON array of the worker's EventPulse version and an object that maps rule ids to reasons.
#: A worker that supports all rules has no field.
REPORTS = f"{KEY_PREFIX}:rules.unsupported"


def report(broker: RedisBroker, reasons: dict[str, str]) -> None:
    """Replace the report of this worker, and delete the reports of lost workers.

    `reasons` maps rule ids to reasons. Raises `redis.RedisError`, except if Redis is full.
    """
    running = queues.worker_ids(broker) | {broker.worker_id}
    known: dict[bytes, bytes] = broker.client.hgetall(REPORTS)  # type: ignore[assignment]
    obsolete = {worker.decode() for worker in known} - running
    # No transaction: a full Redis would reject all of its commands, and the deletions would be lost too. Evaluation
    # must continue if the report is rejected, because evaluation frees memory.
    with broker.client.pipeline(transaction=False) as pipeline, contextlib.suppress(redis.exceptions.OutOfMemoryError):
        if reasons:
            pipeline.hset(REPORTS, broker.worker_id, msgspec.json.encode([__version__, reasons]))
        else:
            obsolete.add(broker.worker_id)
        if obsolete:
            pipeline.hdel(REPORTS, *obsolete)
        pipeline.execute()


def read(broker: RedisBroker) -> dict[str, str]:
    """Return a reason for each rule that a running worker does not support, by rule id. Raises `redis.RedisError`."""
    running = queues.worker_ids(broker)
    reports: dict[bytes, Any] = broker.client.hgetall(REPORTS)  # type: ignore[assignment]
    found: dict[str, str] = {}
    for worker, data in sorted(reports.items()):
        version, reasons = msgspec.json.decode(data)
        if worker.decode() in running:
            found |= {rule: f"{why} (worker {worker.decode()}, version {version})" for rule, why in reasons.items()}
    return found

"""Whether the API can do its work: for people (`/events/health`) and for orchestrators (`/livez`, `/readyz`)."""

import falcon
import redis

from actors.broker import broker
from actors.transport import queues


class Health:
    """`GET /api/v1/events/health`: Redis, and whether workers take from the queue."""

    routine = True

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        try:
            broker.client.ping()
            resp.media = {"status": "ok", "redis": "PONG", "worker": _worker()}
        except redis.RedisError:
            resp.status = falcon.HTTP_503
            resp.media = {"status": "unavailable", "redis": "unreachable", "worker": "unknown"}


def _worker() -> str:
    """ok; degraded: work waits too long; unknown: no worker has been heard of lately."""
    if not queues.workers_alive(broker):
        return "unknown"
    oldest = max((state.oldest_age_seconds for state in queues.depths(broker).values()), default=0)
    return "degraded" if oldest > queues.LAGGING_SECONDS else "ok"


class Live:
    """`GET /livez`: this process answers."""

    routine = True

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"status": "ok"}


class Ready:
    """`GET /readyz`: events can be accepted. That takes Redis; PostgreSQL may be away."""

    routine = True

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        broker.client.ping()
        resp.media = {"status": "ok"}

"""Health of the installation (`/api/v1/events/health`), and liveness and readiness probes for orchestrators."""

import falcon
import redis

from actors.broker import broker
from actors.rule_state import rulebook
from actors.transport import queues
from api.openapi.operation import Operation, Resource
from api.openapi.response_schemas import INTEGER, STRING, choice, object_of

OK = object_of({"status": choice("ok")})
HEALTH = object_of({"status": STRING, "redis": STRING, "worker": choice("ok", "degraded", "unknown")})
HEALTH["properties"]["unsupported_rules"] = INTEGER | {
    "description": "number of rules that at least one running worker does not support and skips; absent if 0"
}


class HealthResource(Resource):
    """`GET /api/v1/events/health`: the state of Redis and of the workers."""

    operations = {"on_get": Operation("Get the state of Redis and the workers", HEALTH, failures=(503,))}
    routine = True
    needs_database = False

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        try:
            broker.client.ping()
            unsupported = len(rulebook.unsupported_rules(broker))
            more = {"unsupported_rules": unsupported} if unsupported else {}
            resp.media = {"status": "ok", "redis": "PONG", "worker": _worker_state(), **more}
        except redis.RedisError:
            resp.status = falcon.HTTP_503
            resp.media = {"status": "unavailable", "redis": "unreachable", "worker": "unknown"}


class LivenessResource(Resource):
    """`GET /livez`: success if this process handles requests."""

    operations = {"on_get": Operation("Check that this process handles requests", OK)}
    routine = True
    needs_database = False

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = {"status": "ok"}


class ReadinessResource(Resource):
    """`GET /readyz`: success if Redis responds. PostgreSQL is not checked, because ingest does not need PostgreSQL."""

    operations = {"on_get": Operation("Check that Redis is available for ingest", OK, failures=(503,))}
    routine = True
    needs_database = False

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        broker.client.ping()
        resp.media = {"status": "ok"}


def _worker_state() -> str:
    """Return the state of the workers. Raises `redis.RedisError`.

    `unknown`: no worker has a recent heartbeat. `degraded`: a message has waited for more than `LAGGING_SECONDS`.
    `ok`: otherwise.
    """
    if not queues.workers_alive(broker):
        return "unknown"
    oldest = max((state.oldest_age_seconds for state in queues.depths(broker).values()), default=0)
    return "degraded" if oldest > queues.LAGGING_SECONDS else "ok"

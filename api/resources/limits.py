"""Resource of the limits of ingest requests and of rules, so that clients can choose the size of their batches."""

import falcon

from api.decoding.event_schema import MAX_DEPTH
from api.openapi.operation import Operation, Resource
from api.openapi.response_schemas import INTEGER, object_of
from eventpulse.settings import Settings

LIMITS = object_of(
    {f"max_{name}": INTEGER for name in ("batch_events", "body_bytes", "event_bytes", "depth", "active_rules")}
)


class LimitsResource(Resource):
    """`GET /api/v1/limits`."""

    operations = {"on_get": Operation("Get the limits of ingest requests and of rules", LIMITS)}
    needs_database = False

    def __init__(self, settings: Settings) -> None:
        self._limits = {
            "max_batch_events": settings.max_batch_events,
            "max_body_bytes": settings.max_body_bytes,
            "max_event_bytes": settings.max_event_bytes,
            "max_depth": MAX_DEPTH,
            "max_active_rules": settings.max_active_rules,
        }

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = self._limits

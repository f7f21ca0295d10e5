"""Resource of the limits of requests and of rules, so that clients can choose the size of their batches."""

import falcon

from api.decoding.event_schema import MAX_DEPTH
from api.decoding.nodes import MAX_BODY_NODES, MAX_EVENT_NODES
from api.openapi.operation import Operation, Resource
from api.openapi.response_schemas import INTEGER, JsonSchema, object_of
from api.resources.paging import MAX_PAGE_BYTES
from eventpulse.settings import Settings

_NODES = "the number of commas and opening brackets"

#: Description of each limit, by name.
LIMITS = {
    "max_batch_events": "events in one request; more: 413",
    "max_body_bytes": "size of a request body, after decompression; more: 413",
    "max_event_bytes": "size of an event as compact JSON; more: 413",
    "max_depth": "nesting depth of `payload` and `metadata`; more: 400",
    "max_active_rules": "rules that are active at the same time; more: 409",
    "max_body_nodes": f"{_NODES} of a body; more: 413",
    "max_event_nodes": f"{_NODES} of an event; more: 413",
    "max_page_bytes": "size of the rows in one page of a list; the page ends before it, and has a cursor",
    "max_body_bytes_in_flight": "size of all request bodies in one API process, without the first 64 KiB of each; "
    "more: 503",
    "max_connections_per_address": "connections from one address to one API process, 0 if there is no limit; more: "
    "the connection that is idle for the longest time is closed, or 503 if none is idle",
}


def _schema(name: str) -> JsonSchema:
    return INTEGER | {"description": LIMITS[name]}


class LimitsResource(Resource):
    """`GET /api/v1/limits`."""

    operations = {
        "on_get": Operation(
            "Get the limits of requests and of rules", object_of({name: _schema(name) for name in LIMITS})
        )
    }
    needs_database = False

    def __init__(self, settings: Settings) -> None:
        self._limits = {
            "max_batch_events": settings.max_batch_events,
            "max_body_bytes": settings.max_body_bytes,
            "max_event_bytes": settings.max_event_bytes,
            "max_depth": MAX_DEPTH,
            "max_active_rules": settings.max_active_rules,
            "max_body_nodes": MAX_BODY_NODES,
            "max_event_nodes": MAX_EVENT_NODES,
            "max_page_bytes": MAX_PAGE_BYTES,
            "max_body_bytes_in_flight": settings.max_body_bytes_in_flight,
            "max_connections_per_address": settings.max_connections_per_address,
        }

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = self._limits

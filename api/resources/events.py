"""The stored events."""

import falcon

from api.resources.ingest import Ingest
from api.resources.lookup import find
from api.resources.paging import page
from api.resources.query_params import EventQuery
from models.event import Event

NEWEST_FIRST = (Event.timestamp, Event.event_id)
FILTERS = {"event_type": Event.event_type, "source": Event.source}


class Events(Ingest):
    """`/api/v1/events`, which also takes events in, and `/api/v1/events/{event_id}`."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = page(EventQuery().load(req.params), NEWEST_FIRST, public, FILTERS)

    def on_get_one(self, _req: falcon.Request, resp: falcon.Response, event_id: str) -> None:
        resp.media = public(find(Event, event_id))


def public(event: Event) -> dict[str, object]:
    return dict(event.__data__)

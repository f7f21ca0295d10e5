"""Resource of the throughput per minute, as computed by the scheduler."""

import falcon

from api.decoding.event_schema import Timestamp
from api.openapi import response_schemas as json_schema
from api.openapi.operation import Resource, listing
from api.resources.paging import page
from api.resources.query_params import Cursor, Period
from models.throughput import Throughput

NEWEST_FIRST = (Throughput.minute,)


class ThroughputQuery(Period):
    """Query parameters of `GET /api/v1/throughput`."""

    cursor = Cursor(tuple[Timestamp])


class ThroughputResource(Resource):
    """`GET /api/v1/throughput`."""

    schemas = {"Throughput": json_schema.row(Throughput)}
    operations = {"on_get": listing("List the throughput per minute, newest first", "Throughput", ThroughputQuery)}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        query = ThroughputQuery().load(req.params)
        resp.media = page(query, NEWEST_FIRST, lambda minute: dict(minute.__data__))

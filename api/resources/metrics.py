"""Resource of the numbers of events per type or source in a recent period."""

from datetime import timedelta

import falcon
from marshmallow import fields, validate

from api.openapi import response_schemas as json_schema
from api.openapi.operation import Operation, Resource
from api.resources.query_params import Query, QueryInteger
from models.base import now
from models.event import Event

#: Maximum number of types or sources in a response, because events may have millions of different values.
MAX_GROUPS = 1_000


class MetricsQuery(Query):
    """Query parameters of `GET /api/v1/metrics`."""

    window_seconds = QueryInteger(
        load_default=60,
        validate=validate.Range(10, 3600),
        metadata={"description": "length in seconds of the period that ends now; events are counted by timestamp"},
    )
    group_by = fields.String(load_default="event_type", validate=validate.OneOf(["event_type", "source"]))


class MetricsResource(Resource):
    """`GET /api/v1/metrics`: the number of events of the `MAX_GROUPS` most frequent types or sources."""

    schemas = {
        "Metrics": json_schema.object_of(
            {
                "window_seconds": json_schema.INTEGER,
                "group_by": json_schema.choice("event_type", "source"),
                "from": json_schema.TIME,
                "to": json_schema.TIME,
                "metrics": json_schema.array(
                    json_schema.object_of(
                        {"key": json_schema.STRING, "count": json_schema.INTEGER, "rate_per_sec": json_schema.NUMBER}
                    )
                ),
            }
        )
    }
    operations = {
        "on_get": Operation(
            "Get the number of events per type or source in the last `window_seconds`: the 1,000 highest counts",
            json_schema.ref("Metrics"),
            query=MetricsQuery,
            failures=(400, 503),
        )
    }

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        query = MetricsQuery().load(req.params)
        seconds, group_by = query["window_seconds"], query["group_by"]
        until = now()
        after = until - timedelta(seconds=seconds)
        counts = Event.counts(group_by, after, until, MAX_GROUPS)
        resp.media = {
            "window_seconds": seconds,
            "group_by": group_by,
            "from": after,
            "to": until,
            "metrics": [{"key": key, "count": count, "rate_per_sec": count / seconds} for key, count in counts],
        }

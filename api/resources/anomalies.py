"""Resource of anomalies and of their deliveries to channels."""

from typing import Any

import falcon
from marshmallow import fields, validate

from api.decoding.event_schema import IdField
from api.openapi import response_schemas as json_schema
from api.openapi.operation import Resource, listing, reading
from api.resources.lookup import find
from api.resources.paging import page
from api.resources.query_params import Period
from eventpulse.severity import SEVERITIES
from models.anomaly import Anomaly
from models.delivery import Delivery

NEWEST_FIRST = (Anomaly.detected_at, Anomaly.anomaly_id)
FILTERS = {"rule_id": Anomaly.rule_id, "severity": Anomaly.severity, "event_id": Anomaly.event_id}

#: Columns that responses omit: the keys for deduplication and cooldowns, the position of a delivery in its queue, and
#: the reference of a delivery to its anomaly.
INTERNAL = {"dedupe_key", "series", "cooldown_anchor", "anomaly", "due_at", "severity_rank", "queued_at"}


class AnomalyQuery(Period):
    """Query parameters of `GET /api/v1/anomalies`."""

    rule_id = IdField()
    severity = fields.String(validate=validate.OneOf(SEVERITIES))
    event_id = IdField(metadata={"description": "id of the event that triggered the rule"})


class AnomaliesResource(Resource):
    """`/api/v1/anomalies`, and `/api/v1/anomalies/{anomaly_id}` with the deliveries of the anomaly."""

    schemas = {
        "Anomaly": json_schema.row(Anomaly, INTERNAL),
        "Delivery": json_schema.row(Delivery, INTERNAL),
        "AnomalyWithDeliveries": {
            "allOf": [
                json_schema.ref("Anomaly"),
                json_schema.object_of({"deliveries": json_schema.array(json_schema.ref("Delivery"))}),
            ],
        },
    }
    operations = {
        "on_get": listing("List the anomalies, newest first", "Anomaly", AnomalyQuery),
        "on_get_one": reading("Get an anomaly with its deliveries", "AnomalyWithDeliveries"),
    }

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = page(AnomalyQuery().load(req.params), NEWEST_FIRST, public, FILTERS)

    def on_get_one(self, _req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        anomaly = find(Anomaly, path)
        deliveries = Delivery.select().where(Delivery.anomaly == anomaly).order_by(Delivery.channel_name)
        resp.media = {**public(anomaly), "deliveries": [public(delivery) for delivery in deliveries]}


def public(row: Anomaly | Delivery) -> dict[str, Any]:
    """Return the public columns of an anomaly or a delivery."""
    return {name: value for name, value in row.__data__.items() if name not in INTERNAL}

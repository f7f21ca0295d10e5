"""What the rules found."""

from typing import Any

import falcon

from api.resources.lookup import find
from api.resources.paging import page
from api.resources.query_params import AnomalyQuery
from models.anomaly import Anomaly
from models.delivery import Delivery

NEWEST_FIRST = (Anomaly.detected_at, Anomaly.anomaly_id)
FILTERS = {"rule_id": Anomaly.rule_id, "severity": Anomaly.severity, "event_id": Anomaly.event_id}

#: What keeps anomalies apart, and which worker is at a delivery, are our own business.
INTERNAL = {"dedupe_key", "series", "cooldown_anchor", "anomaly", "due_at"}


class Anomalies:
    """`/api/v1/anomalies` and `/api/v1/anomalies/{anomaly_id}`, which adds how each channel was told."""

    needs_database = True

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = page(AnomalyQuery().load(req.params), NEWEST_FIRST, public, FILTERS)

    def on_get_one(self, _req: falcon.Request, resp: falcon.Response, anomaly_id: str) -> None:
        anomaly = find(Anomaly, anomaly_id)
        deliveries = Delivery.select().where(Delivery.anomaly == anomaly).order_by(Delivery.channel_name)
        resp.media = {**public(anomaly), "deliveries": [public(delivery) for delivery in deliveries]}


def public(row: Anomaly | Delivery) -> dict[str, Any]:
    return {name: value for name, value in row.__data__.items() if name not in INTERNAL}

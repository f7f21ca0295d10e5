"""Every operation in words: what the routes of `app.py` do, take and answer."""

from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from api.decoding.event_schema import EventSchema
from api.openapi.response_schemas import STRING, UUID, JsonSchema, array, choice, page_of, ref, shape
from api.resources.channel_schemas import ChannelSchema
from api.resources.query_params import AnomalyQuery, EventQuery, MetricsQuery, Page, ThroughputQuery
from rules.rule import RuleSchema

JSON, NDJSON = "application/json", "application/x-ndjson"

EVENT = {
    "event_type": "error",
    "source": "payment_service",
    "timestamp": "2026-11-20T12:00:00Z",
    "payload": {"amount": 12.5, "code": "card_declined"},
}
RULE = {
    "name": "High error rate",
    "severity": "critical",
    "window_seconds": 60,
    "cooldown_seconds": 300,
    "condition": {
        "type": "threshold",
        "metric": "count",
        "filters": {"event_type": "error", "source": "payment_service"},
        "group_by": ["source"],
        "operator": ">",
        "value": 5,
    },
}
CHANNEL = {
    "name": "ops",
    "kind": "slack",
    "settings": {"webhook_url": "https://hooks.slack.com/services/…"},
    "minimum_severity": "warning",
}

EVENTS = array(EventSchema) | {"minItems": 1}  # type: ignore[arg-type]
BATCH = {"anyOf": [EVENTS, shape({"events": EVENTS}) | {"additionalProperties": False}]}
ACCEPTED = shape({"status": choice("accepted"), "event_id": UUID})
BATCH_ACCEPTED = shape({"status": choice("accepted"), "count": {"type": "integer"}, "event_ids": array(UUID)})
HEALTH = shape({"status": STRING, "redis": STRING, "worker": choice("ok", "degraded", "unknown")})
OK = shape({"status": choice("ok")})
LIMITS = shape({f"max_{name}": {"type": "integer"} for name in ("batch_events", "body_bytes", "event_bytes", "depth")})
DELIVERED = shape({"status": choice("delivered"), "receipt": STRING})

Body = JsonSchema | Schema | type[Schema]


@dataclass(frozen=True)
class Operation:
    """`answer` is the JSON of a success, if any; `body` that of the request, by media type; `fails` are its errors."""

    summary: str
    answer: JsonSchema | None = None
    status: int = 200
    query: type[Schema] | None = None
    body: dict[str, Body] = field(default_factory=dict)
    example: Any = None
    fails: tuple[int, ...] = ()


def listing(summary: str, name: str, query: type[Schema] = Page) -> Operation:
    return Operation(summary, page_of(name), query=query, fails=(400, 503))


def reading(summary: str, name: str) -> Operation:
    return Operation(summary, ref(name), fails=(400, 404, 503))


def writing(summary: str, name: str, body: Body, example: Any, *fails: int, status: int = 200) -> Operation:
    return Operation(
        summary,
        ref(name),
        status,
        body={JSON: body},
        example=example,
        fails=tuple(sorted((400, 413, 415, 503, *fails))),
    )


OPERATIONS: dict[str, Operation] = {
    "POST /api/v1/events": Operation(
        "Take an event in: 202 when it is durably queued",
        ACCEPTED,
        202,
        body={JSON: EventSchema},
        example=EVENT,
        fails=(400, 413, 415, 503),
    ),
    "POST /api/v1/events/batch": Operation(
        "Take many events in, all or none: an array, an object with `events`, or NDJSON",
        BATCH_ACCEPTED,
        202,
        body={JSON: BATCH, NDJSON: EventSchema},
        example=[EVENT],
        fails=(400, 413, 415, 503),
    ),
    "GET /api/v1/events": listing("Stored events, newest first", "Event", EventQuery),
    "GET /api/v1/events/{event_id}": reading("One stored event", "Event"),
    "GET /api/v1/events/health": Operation("Redis and the workers, for people", HEALTH, fails=(503,)),
    "GET /api/v1/anomalies": listing("What the rules found, newest first", "Anomaly", AnomalyQuery),
    "GET /api/v1/anomalies/{anomaly_id}": reading(
        "One anomaly, and how each channel was told", "AnomalyWithDeliveries"
    ),
    "GET /api/v1/rules": listing("The rules, newest first", "Rule"),
    "POST /api/v1/rules": writing("Add a rule; it is in force at once", "Rule", RuleSchema, RULE, status=201),
    "GET /api/v1/rules/{rule_id}": reading("One rule; its version is the ETag", "Rule"),
    "PUT /api/v1/rules/{rule_id}": writing("Replace a rule", "Rule", RuleSchema, RULE, 404, 409, 412),
    "PATCH /api/v1/rules/{rule_id}": writing(
        "Change some fields of a rule; a condition is replaced whole",
        "Rule",
        RuleSchema(partial=True),
        {"enabled": False},
        404,
        409,
        412,
    ),
    "DELETE /api/v1/rules/{rule_id}": Operation(
        "Delete a rule; its anomalies stay", status=204, fails=(400, 404, 409, 412, 503)
    ),
    "GET /api/v1/channels": listing("The channels, newest first, their secrets masked", "Channel"),
    "POST /api/v1/channels": writing("Add a channel", "Channel", ChannelSchema, CHANNEL, 409, status=201),
    "GET /api/v1/channels/{channel_id}": reading("One channel, its secrets masked", "Channel"),
    "PUT /api/v1/channels/{channel_id}": writing(
        "Replace a channel; a secret sent as *** stays as it is", "Channel", ChannelSchema, CHANNEL, 404, 409
    ),
    "PATCH /api/v1/channels/{channel_id}": writing(
        "Change some fields of a channel; settings are replaced whole",
        "Channel",
        ChannelSchema(partial=True),
        {"enabled": False},
        404,
        409,
    ),
    "DELETE /api/v1/channels/{channel_id}": Operation("Delete a channel", status=204, fails=(400, 404, 503)),
    "POST /api/v1/channels/{channel_id}/test": Operation(
        "Send a test message now; 502 says why the channel did not take it", DELIVERED, fails=(400, 404, 502, 503)
    ),
    "GET /api/v1/metrics": Operation(
        "How many events there were of late, by type or source: the 1,000 most frequent",
        ref("Metrics"),
        query=MetricsQuery,
        fails=(400, 503),
    ),
    "GET /api/v1/throughput": listing("The work of each minute, newest first", "Throughput", ThroughputQuery),
    "GET /api/v1/limits": Operation("What a client may send at most", LIMITS),
    "GET /api/v1/openapi.json": Operation("This document", {"type": "object"}),
    "GET /livez": Operation("This process answers", OK),
    "GET /readyz": Operation("Events can be accepted", OK, fails=(503,)),
}

"""What our answers look like, as JSON schemas: rows from their models, the rest in full."""

from collections.abc import Mapping
from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField, DateTimeTZField

from api.resources import anomalies
from models.anomaly import Anomaly
from models.base import Row
from models.channel import Channel
from models.delivery import Delivery
from models.event import Event
from models.rule import Rule
from models.throughput import Throughput

JsonSchema = dict[str, Any]

STRING: JsonSchema = {"type": "string"}
NUMBER: JsonSchema = {"type": "number"}
INTEGER: JsonSchema = {"type": "integer"}
UUID: JsonSchema = {"type": "string", "format": "uuid"}
TIME: JsonSchema = {"type": "string", "format": "date-time"}

COLUMNS: dict[type[peewee.Field], JsonSchema] = {
    peewee.UUIDField: UUID,
    peewee.TextField: STRING,
    peewee.IntegerField: INTEGER,
    peewee.BigIntegerField: INTEGER,
    peewee.DoubleField: NUMBER,
    peewee.BooleanField: {"type": "boolean"},
    DateTimeTZField: TIME,
    BinaryJSONField: {"type": "object"},
}


def shape(properties: Mapping[str, JsonSchema]) -> JsonSchema:
    """An object that always has all of its properties."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def nullable(schema: JsonSchema) -> JsonSchema:
    return {**schema, "type": [schema["type"], "null"]}


def array(items: JsonSchema) -> JsonSchema:
    return {"type": "array", "items": items}


def choice(*values: str) -> JsonSchema:
    return {"type": "string", "enum": list(values)}


def ref(name: str) -> JsonSchema:
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> JsonSchema:
    return shape({"data": array(ref(name)), "pagination": ref("Pagination")})


def row(model: type[Row], hidden: set[str] = frozenset(), **more: JsonSchema) -> JsonSchema:  # type: ignore[assignment]
    """The columns of a table that are shown, and what is shown beside them."""
    fields = {name: field for name, field in model._meta.fields.items() if name not in hidden}
    columns = {
        name: nullable(COLUMNS[type(field)]) if field.null else COLUMNS[type(field)] for name, field in fields.items()
    }
    return shape(columns | more)


FIELD_ERROR = {
    "type": "object",
    "properties": {
        "index": INTEGER | {"description": "place in the batch, from 0"},
        "field": STRING | {"description": "path of the field, as condition.operator"},
        "message": STRING,
    },
    "required": ["field", "message"],
}
PROBLEM = {
    "type": "object",
    "description": "what went wrong, as RFC 9457 says it",
    "properties": {
        "type": STRING,
        "title": STRING,
        "status": INTEGER,
        "detail": STRING,
        "instance": STRING,
        "request_id": STRING | {"description": "the X-Request-ID of the answer; the server's log has it too"},
        "errors": array(ref("FieldError")),
    },
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
}

SHAPES: dict[str, JsonSchema] = {
    "FieldError": FIELD_ERROR,
    "Problem": PROBLEM,
    "Pagination": shape(
        {
            "limit": INTEGER,
            "offset": INTEGER,
            "count": INTEGER | {"description": "rows in this page"},
            "next_cursor": nullable(STRING) | {"description": "the `cursor` of the page after; null: this is the last"},
        }
    ),
    "Event": row(Event),
    "Anomaly": row(Anomaly, anomalies.INTERNAL),
    "Delivery": row(Delivery, anomalies.INTERNAL),
    "AnomalyWithDeliveries": {
        "allOf": [ref("Anomaly"), shape({"deliveries": array(ref("Delivery"))})],
    },
    "Rule": row(
        Rule,
        {"error"},
        status=choice("active", "disabled", "error"),
        status_reason=nullable(STRING) | {"description": "why the rule is suspended, when its status is error"},
    ),
    "Channel": row(Channel),
    "Throughput": row(Throughput),
    "Metrics": shape(
        {
            "window_seconds": INTEGER,
            "group_by": choice("event_type", "source"),
            "from": TIME,
            "to": TIME,
            "metrics": array(shape({"key": STRING, "count": INTEGER, "rate_per_sec": NUMBER})),
        }
    ),
}

"""Functions that build JSON schemas of responses, and the schemas that several resources share."""

from collections.abc import Collection, Mapping
from typing import Any

import peewee
from playhouse.postgres_ext import BinaryJSONField, DateTimeTZField

from models.base import Row

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


def object_of(properties: Mapping[str, JsonSchema]) -> JsonSchema:
    """Return the schema of an object whose `properties` are all required."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def nullable(schema: JsonSchema) -> JsonSchema:
    """Return a copy of `schema` that also allows null."""
    return {**schema, "type": [schema["type"], "null"]}


def array(items: JsonSchema) -> JsonSchema:
    """Return the schema of an array whose items have the schema `items`."""
    return {"type": "array", "items": items}


def choice(*values: str) -> JsonSchema:
    """Return the schema of a string that is one of `values`."""
    return {"type": "string", "enum": list(values)}


def ref(name: str) -> JsonSchema:
    """Return a reference to the schema with this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> JsonSchema:
    """Return the schema of a page of rows with the schema `name`."""
    return object_of({"data": array(ref(name)), "pagination": ref("Pagination")})


def row(model: type[Row], hidden: Collection[str] = (), **more: JsonSchema) -> JsonSchema:
    """Return the schema of a row: the columns of the table except `hidden`, and the properties in `more`."""
    fields = {name: field for name, field in model._meta.fields.items() if name not in hidden}
    columns = {
        name: nullable(COLUMNS[type(field)]) if field.null else COLUMNS[type(field)] for name, field in fields.items()
    }
    return object_of(columns | more)


SHARED_SCHEMAS: dict[str, JsonSchema] = {
    "FieldError": {
        "type": "object",
        "properties": {
            "index": INTEGER | {"description": "position of the event in the batch, from 0"},
            "field": STRING
            | {"description": "path of the field, such as condition.operator, or name of the parameter or header"},
            "message": STRING,
        },
        "required": ["field", "message"],
    },
    "Problem": {
        "type": "object",
        "description": "error, as problem details (RFC 9457)",
        "properties": {
            "type": STRING,
            "title": STRING,
            "status": INTEGER,
            "detail": STRING,
            "instance": STRING,
            "request_id": STRING | {"description": "value of the X-Request-ID header; also in the server log"},
            "errors": array(ref("FieldError")),
        },
        "required": ["type", "title", "status", "detail", "instance", "request_id"],
    },
    "Pagination": object_of(
        {
            "limit": INTEGER,
            "offset": INTEGER,
            "count": INTEGER
            | {"description": "number of rows in this page; less than `limit` if the page would exceed 4 MiB"},
            "next_cursor": nullable(STRING)
            | {"description": "value of `cursor` for the next page; null on the last page"},
        }
    ),
}

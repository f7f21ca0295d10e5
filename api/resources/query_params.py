"""Schemas of the query parameters of several lists, for validation and for the OpenAPI document.

Unknown parameters are ignored, so that clients can send parameters of other versions.
"""

import re
from typing import Any
from uuid import UUID

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate, validates_schema

from api.decoding.event_schema import Timestamp, TimestampField, to_utc
from api.resources import paging

MAX_LIMIT = 500


class Cursor(fields.String):
    """Field for the `next_cursor` of the previous page, converted to the sort key of the last row of that page."""

    def __init__(self, key_type: Any) -> None:
        super().__init__(metadata={"description": "`next_cursor` of the previous page"})
        self._key_type = key_type

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        try:
            time, *rest = paging.decode(super()._deserialize(value, attr, data, **options), self._key_type)
            return (to_utc(time), *rest)
        except ValueError as error:
            raise ValidationError("Must be the next_cursor of a page of this list.") from error


class QueryInteger(fields.Integer):
    """Field for a whole number in ASCII digits: Python would also accept 1_0 as 10."""

    default_error_messages = {"invalid": "Must be a whole number."}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        if not re.fullmatch(r"[+-]?[0-9]+", str(value)):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class Query(Schema):
    """Base schema of query strings."""

    class Meta:
        unknown = EXCLUDE


class Page(Query):
    """Query parameters of a list with pages."""

    limit = QueryInteger(
        load_default=50,
        metadata={"description": f"maximum number of rows in the page; values outside 1 to {MAX_LIMIT} are clamped"},
    )
    offset = QueryInteger(
        load_default=0,
        validate=validate.Range(0, paging.MAX_OFFSET),
        metadata={"description": "number of rows to skip; a cursor is faster for deep pages"},
    )
    cursor = Cursor(tuple[Timestamp, UUID])

    @post_load
    def clamp(self, query: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**query, "limit": min(max(query["limit"], 1), MAX_LIMIT)}


class Period(Page):
    """Query parameters of a list with pages and a period."""

    from_ = TimestampField(data_key="from", metadata={"description": "earliest time, inclusive"})
    to = TimestampField(metadata={"description": "latest time, inclusive"})

    @validates_schema
    def check_order(self, query: dict[str, Any], **_: Any) -> None:
        if "from_" in query and "to" in query and query["from_"] > query["to"]:
            raise ValidationError("Must not be after `to`.", "from")

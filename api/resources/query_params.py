"""Query parameters that several lists share. The schemas check a query string and describe it in the OpenAPI document.

Unknown parameters are ignored, so that clients may send more than the server reads.
"""

import re
from typing import Any
from uuid import UUID

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate, validates_schema

from api.decoding.event_schema import Timestamp, TimestampField, to_utc
from api.resources import paging

MAX_LIMIT = 500


class Cursor(fields.String):
    """The `next_cursor` of the previous page, converted to the sort key of its last row."""

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
    """A whole number in ASCII digits. Python would also accept 1_0 as 10."""

    default_error_messages = {"invalid": "Must be a whole number."}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        if not re.fullmatch(r"[+-]?[0-9]+", str(value)):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class Query(Schema):
    """A query string."""

    class Meta:
        unknown = EXCLUDE


class Page(Query):
    """A page of a list."""

    limit = QueryInteger(
        load_default=50, metadata={"description": f"rows in a page; values outside 1 to {MAX_LIMIT} are clamped"}
    )
    offset = QueryInteger(
        load_default=0,
        validate=validate.Range(0, paging.MAX_OFFSET),
        metadata={"description": "rows to skip; a cursor is cheaper for deep pages"},
    )
    cursor = Cursor(tuple[Timestamp, UUID])

    @post_load
    def clamp(self, query: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**query, "limit": min(max(query["limit"], 1), MAX_LIMIT)}


class Period(Page):
    """A page of a list within a period."""

    from_ = TimestampField(data_key="from", metadata={"description": "earliest time, inclusive"})
    to = TimestampField(metadata={"description": "latest time, inclusive"})

    @validates_schema
    def check_order(self, query: dict[str, Any], **_: Any) -> None:
        if "from_" in query and "to" in query and query["from_"] > query["to"]:
            raise ValidationError("Must not be after `to`.", "from")

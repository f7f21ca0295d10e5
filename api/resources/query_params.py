"""What each list may be asked for: the schemas that check a query string are also its documentation.

Parameters that are not known are ignored, so that clients may send more than we read.
"""

import re
from typing import Any
from uuid import UUID

from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, validate, validates_schema

from api.decoding.event_schema import IdField, NameField, Timestamp, TimestampField, to_utc
from api.resources import paging
from models.channel import SEVERITIES

MAX_LIMIT = 500


class Cursor(fields.String):
    """The `next_cursor` of the page before; becomes the sort key of its last row."""

    def __init__(self, key: Any) -> None:
        super().__init__(metadata={"description": "`next_cursor` of the page before"})
        self._key = key

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        try:
            moment, *rest = paging.decode(super()._deserialize(value, attr, data, **options), self._key)
            return (to_utc(moment), *rest)
        except ValueError as error:
            raise ValidationError("must be the next_cursor of a page of this list") from error


class Whole(fields.Integer):
    """A whole number in digits: Python would read 1_0 as 10, too."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        if not re.fullmatch(r"[+-]?[0-9]+", str(value)):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **options)


class Query(Schema):
    class Meta:
        unknown = EXCLUDE


class Page(Query):
    limit = Whole(
        load_default=50, metadata={"description": f"rows in a page, 1 to {MAX_LIMIT}; what is beyond is clamped"}
    )
    offset = Whole(
        load_default=0,
        validate=validate.Range(0, paging.MAX_OFFSET),
        metadata={"description": "rows to skip; for deep pages a cursor is cheaper"},
    )
    cursor = Cursor(tuple[Timestamp, UUID])

    @post_load
    def clamp(self, query: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**query, "limit": min(max(query["limit"], 1), MAX_LIMIT)}


class Period(Page):
    from_ = TimestampField(data_key="from", metadata={"description": "earliest time, inclusive"})
    to = TimestampField(metadata={"description": "latest time, inclusive"})

    @validates_schema
    def in_order(self, query: dict[str, Any], **_: Any) -> None:
        if "from_" in query and "to" in query and query["from_"] > query["to"]:
            raise ValidationError("Must not be after `to`.", "from")


class EventQuery(Period):
    event_type = NameField()
    source = NameField()


class AnomalyQuery(Period):
    rule_id = IdField()
    severity = fields.String(validate=validate.OneOf(SEVERITIES))
    event_id = IdField(metadata={"description": "the event that made the rule fire"})


class ThroughputQuery(Period):
    cursor = Cursor(tuple[Timestamp])


class MetricsQuery(Query):
    window_seconds = Whole(
        load_default=60,
        validate=validate.Range(10, 3600),
        metadata={"description": "seconds to look back, by the time of the events"},
    )
    group_by = fields.String(load_default="event_type", validate=validate.OneOf(["event_type", "source"]))

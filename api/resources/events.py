"""Resource of events, which are accepted into the queue and read from PostgreSQL."""

import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import falcon
from marshmallow import post_load

from actors.pipeline import ingest
from api import problems
from api.decoding import body, body_formats, decode
from api.decoding.byte_budget import ByteBudget, Reservation
from api.decoding.event_schema import EventSchema, NameField, TimestampField
from api.openapi import response_schemas as json_schema
from api.openapi.operation import JSON, NDJSON, Operation, Resource, listing, reading
from api.resources.lookup import find
from api.resources.paging import page
from api.resources.query_params import Period
from eventpulse.settings import Settings
from models.base import now
from models.event import Event

NEWEST_FIRST = (Event.timestamp, Event.event_id)
FILTERS = {"event_type": Event.event_type, "source": Event.source}
SINGLE_FORMATS = {JSON: body_formats.SINGLE}
BATCH_FORMATS = {JSON: body_formats.BATCH, NDJSON: body_formats.NDJSON}
#: Events with later times are listed only if the query has `to`.
FUTURE_SECONDS = 60
IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")


class EventQuery(Period):
    """Query parameters of `GET /api/v1/events`."""

    event_type = NameField()
    source = NameField()
    to = TimestampField(
        metadata={
            "description": f"latest time, inclusive; by default {FUTURE_SECONDS} s from now, so that events of sources "
            "whose clocks are wrong do not hide the newest events"
        }
    )

    @post_load
    def end_soon(self, query: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"to": now() + timedelta(seconds=FUTURE_SECONDS), **query}


EXAMPLE = {
    "event_type": "error",
    "source": "payment_service",
    "timestamp": "2026-11-20T12:00:00Z",
    "payload": {"amount": 12.5, "code": "card_declined"},
}
ARRAY = json_schema.array(EventSchema) | {"minItems": 1}  # type: ignore[arg-type] # apispec resolves schema classes
ENVELOPE = json_schema.object_of({"events": ARRAY}) | {"additionalProperties": False}
ACCEPTED = json_schema.object_of({"status": json_schema.choice("accepted"), "event_id": json_schema.UUID})
BATCH_ACCEPTED = json_schema.object_of(
    {
        "status": json_schema.choice("accepted"),
        "count": json_schema.INTEGER,
        "event_ids": json_schema.array(json_schema.UUID),
    }
)


class EventsResource(Resource):
    """`/api/v1/events`, `/api/v1/events/batch` and `/api/v1/events/{event_id}`.

    The status 202 means that Redis has confirmed every event of the request.
    """

    schemas = {"Event": json_schema.row(Event)}
    operations = {
        "on_get": listing("List the stored events, newest first", "Event", EventQuery),
        "on_post": Operation(
            "Accept an event; 202 means that the event is durably queued",
            ACCEPTED,
            202,
            body={JSON: EventSchema},
            example=EXAMPLE,
            failures=(400, 413, 415, 503),
        ),
        "on_post_batch": Operation(
            "Accept a batch of events, all or none; the body is an array, an object with `events`, or NDJSON",
            BATCH_ACCEPTED,
            202,
            body={JSON: {"anyOf": [ARRAY, ENVELOPE]}, NDJSON: EventSchema},
            example=[EXAMPLE],
            failures=(400, 413, 415, 503),
        ),
        "on_get_one": reading("Get a stored event", "Event"),
    }
    routine = ("POST",)
    needs_database = ("GET",)  # ingest never waits for PostgreSQL

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._budget = ByteBudget(settings.max_body_bytes_in_flight)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        (event_id,) = self._accept(req, SINGLE_FORMATS)
        resp.status = falcon.HTTP_202
        resp.media = {"status": "accepted", "event_id": event_id}

    def on_post_batch(self, req: falcon.Request, resp: falcon.Response) -> None:
        event_ids = self._accept(req, BATCH_FORMATS)
        resp.status = falcon.HTTP_202
        resp.media = {"status": "accepted", "count": len(event_ids), "event_ids": event_ids}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = page(EventQuery().load(req.params), NEWEST_FIRST, public, FILTERS)

    def on_get_one(self, _req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        resp.media = public(find(Event, path))

    def _accept(self, req: falcon.Request, formats: dict[str, body_formats.BodyFormat]) -> list[UUID]:
        body_format = _body_format(req, formats)
        idempotency_key = _idempotency_key(req)
        ingest.check_accepting()
        # The bytes stay reserved until Redis has the events, because a copy of them waits for the call to Redis.
        with Reservation(self._budget) as reservation:
            text = body.read(req, self._settings.max_body_bytes, reservation)
            events = decode.decode(text, body_format, self._settings, idempotency_key)
            ingest.accept(events.encoded, req.context.request_id)
        return events.ids


def public(event: Event) -> dict[str, Any]:
    """Return the columns of an event."""
    return dict(event.__data__)


def _body_format(req: falcon.Request, formats: dict[str, body_formats.BodyFormat]) -> body_formats.BodyFormat:
    # The parameters of the media type are ignored, because JSON is always UTF-8.
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type not in formats:
        accepted = {"Accept": ", ".join(formats)}
        raise problems.unsupported("Content-Type", f"Must be {' or '.join(formats)}.", accepted)
    return formats[media_type]


def _idempotency_key(req: falcon.Request) -> str | None:
    key = req.get_header("Idempotency-Key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        error = problems.field_error("Idempotency-Key", "Must be 1 to 255 visible ASCII characters.")
        raise problems.invalid([error], "Invalid header")
    return key

"""Events come in: read, decode, queue, answer. PostgreSQL has no part in it."""

import re
from uuid import UUID

import falcon

from actors.pipeline import ingest
from api import problems
from api.decoding import body, decode
from eventpulse.settings import Settings

VISIBLE = re.compile(r"[!-~]{1,255}")

ONE = {"application/json": decode.SINGLE}
BATCH = {"application/json": decode.BATCH, "application/x-ndjson": decode.NDJSON}


class Ingest:
    """`POST /api/v1/events` and `POST /api/v1/events/batch`: 202 when Redis has confirmed every event."""

    routine = ("POST",)
    needs_database = ("GET",)  # of those who read this collection; taking events in never waits for PostgreSQL

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        (event_id,) = self._accept(req, ONE)
        resp.status = falcon.HTTP_202
        resp.media = {"status": "accepted", "event_id": event_id}

    def on_post_batch(self, req: falcon.Request, resp: falcon.Response) -> None:
        event_ids = self._accept(req, BATCH)
        resp.status = falcon.HTTP_202
        resp.media = {"status": "accepted", "count": len(event_ids), "event_ids": event_ids}

    def _accept(self, req: falcon.Request, forms: dict[str, decode.BodyFormat]) -> list[UUID]:
        form = _form(req, forms)
        key = _idempotency_key(req)
        ingest.check_accepting()
        text = body.read(req, self.settings.max_body_bytes)
        events = decode.decode(text, form, self.settings, key)
        ingest.accept(events.encoded, req.context.request_id)
        return events.ids


def _form(req: falcon.Request, forms: dict[str, decode.BodyFormat]) -> decode.BodyFormat:
    # Parameters say nothing new: JSON is UTF-8, whatever charset is named.
    given = (req.content_type or "").partition(";")[0].strip().lower()
    if given not in forms:
        wanted = ", ".join(forms)
        raise problems.unsupported("Content-Type", f"Must be {' or '.join(forms)}.", {"Accept": wanted})
    return forms[given]


def _idempotency_key(req: falcon.Request) -> str | None:
    key = req.get_header("Idempotency-Key")
    if key is not None and not VISIBLE.fullmatch(key):
        message = "Must be 1 to 255 visible ASCII characters."
        raise problems.invalid([{"field": "Idempotency-Key", "message": message}], "Invalid header")
    return key

"""What a client may send at most, for clients that size their own batches."""

from typing import Any

import falcon

from api.decoding.event_schema import MAX_DEPTH
from eventpulse.settings import Settings


class Limits:
    """`GET /api/v1/limits`."""

    def __init__(self, settings: Settings) -> None:
        self.limits: dict[str, Any] = {
            "max_batch_events": settings.max_batch_events,
            "max_body_bytes": settings.max_body_bytes,
            "max_event_bytes": settings.max_event_bytes,
            "max_depth": MAX_DEPTH,
        }

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = self.limits

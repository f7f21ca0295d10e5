"""How many events there were of late, by their own time."""

from datetime import timedelta

import falcon

from api.resources.query_params import MetricsQuery
from models.base import now
from models.event import Event


class Metrics:
    """`/api/v1/metrics`: events of the window that ends now, by type or source; the `MOST_GROUPS` largest."""

    needs_database = True

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        query = MetricsQuery().load(req.params)
        seconds, group_by = query["window_seconds"], query["group_by"]
        until = now()
        after = until - timedelta(seconds=seconds)
        counts = Event.counts(group_by, after, until, MOST_GROUPS)
        resp.media = {
            "window_seconds": seconds,
            "group_by": group_by,
            "from": after,
            "to": until,
            "metrics": [{"key": key, "count": count, "rate_per_sec": count / seconds} for key, count in counts],
        }


#: Clients choose types and sources, and could choose a million of them.
MOST_GROUPS = 1_000

"""The work of each minute, as the scheduler rolls it up."""

import falcon

from api.resources.paging import page
from api.resources.query_params import ThroughputQuery
from models.throughput import Throughput

NEWEST_FIRST = (Throughput.minute,)


class Minutes:
    """`/api/v1/throughput`."""

    needs_database = True

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = page(ThroughputQuery().load(req.params), NEWEST_FIRST, lambda minute: dict(minute.__data__))

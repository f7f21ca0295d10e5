"""What surrounds every request: its id, its log line, and a database connection where one is needed."""

import logging
import re
from time import perf_counter
from typing import Any

import falcon
import structlog

from actors.messages import new_id
from models.database import database

log = structlog.get_logger()
debugging = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestLog:
    """Gives each request an id, the client's own if it is fit, echoes it, and logs how the request went.

    Resources find the id as `req.context.request_id`; every log line of the request carries it.
    """

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = req.get_header("X-Request-ID")
        request_id = given if given and REQUEST_ID.fullmatch(given) else new_id()
        req.context.request_id = request_id
        req.context.started = perf_counter()
        resp.set_header("X-Request-ID", request_id)
        structlog.contextvars.clear_contextvars()  # a connection's next request has the same context
        structlog.contextvars.bind_contextvars(request_id=request_id)

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, _succeeded: bool) -> None:
        # Thousands of ingest requests a second would drown the log, and so would every dashboard that looks.
        routine = (req.method == "GET" or _applies("routine", resource, req)) and resp.status_code < 400
        if routine and not debugging.isEnabledFor(logging.DEBUG):
            return
        write = log.debug if routine else log.info
        milliseconds = round((perf_counter() - req.context.started) * 1000, 1)
        write("request", method=req.method, path=req.path, status=resp.status_code, ms=milliseconds)


class DatabaseConnection:
    """Opens a PostgreSQL connection for a resource that says `needs_database`, and gives it back after the request.

    A resource that does not say so never waits for PostgreSQL.
    """

    def process_resource(self, req: falcon.Request, _resp: falcon.Response, resource: Any, _params: Any) -> None:
        req.context.connected = _applies("needs_database", resource, req) and database.connect(reuse_if_open=True)

    def process_response(self, req: falcon.Request, _resp: falcon.Response, _resource: Any, _succeeded: bool) -> None:
        if req.context.get("connected"):  # what is not routed has no resource
            database.close()


def _applies(trait: str, resource: Any, req: falcon.Request) -> bool:
    """Whether a resource has a trait: True, or a tuple of the methods that have it."""
    found = getattr(resource, trait, False)
    return found if isinstance(found, bool) else req.method in found

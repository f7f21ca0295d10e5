"""What surrounds every request: its id, its log line, and a database connection where one is needed."""

import logging
import re
import threading
from time import monotonic, perf_counter
from typing import Any

import falcon
import structlog

from actors.transport.messages import new_id
from api import problems
from models.database import database, is_outage

log = structlog.get_logger()
debugging = logging.getLogger(__name__)

#: How long nobody asks for PostgreSQL again after it was found to be away.
AWAY_SECONDS = 1.0
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

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._away_until = 0.0

    def process_resource(self, req: falcon.Request, _resp: falcon.Response, resource: Any, _params: Any) -> None:
        req.context.connected = _applies("needs_database", resource, req) and self._connect()

    def _connect(self) -> bool:
        """Connect; while PostgreSQL is away one request waits for it, and those behind it hear what that one heard."""
        with self._turn:
            if monotonic() < self._away_until:
                raise problems.unavailable("PostgreSQL is unavailable")
            try:
                return bool(database.connect(reuse_if_open=True))
            except Exception as error:
                if is_outage(error):
                    self._away_until = monotonic() + AWAY_SECONDS
                raise

    def process_response(self, req: falcon.Request, _resp: falcon.Response, _resource: Any, _succeeded: bool) -> None:
        if req.context.get("connected"):  # what is not routed has no resource
            database.close()


def _applies(trait: str, resource: Any, req: falcon.Request) -> bool:
    """Whether a resource has a trait: True, or a tuple of the methods that have it."""
    found = getattr(resource, trait, False)
    return found if isinstance(found, bool) else req.method in found

"""What surrounds every request: its id, its log line, and a database connection where one is needed."""

import re
import threading
from time import perf_counter
from typing import Any
from uuid import uuid4

import falcon
import structlog

from models.database import database

log = structlog.get_logger()

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestLog:
    """Gives each request an id, the client's own if it is fit, echoes it, and logs how the request went.

    Resources find the id as `req.context.request_id`; every log line of the request carries it.
    """

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = req.get_header("X-Request-ID")
        request_id = given if given and REQUEST_ID.fullmatch(given) else uuid4().hex
        req.context.request_id = request_id
        req.context.started = perf_counter()
        resp.set_header("X-Request-ID", request_id)
        structlog.contextvars.clear_contextvars()  # threads are used again
        structlog.contextvars.bind_contextvars(request_id=request_id)

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, _succeeded: bool) -> None:
        # Thousands of ingest requests a second would drown the log, and so would every dashboard that looks.
        routine = (req.method == "GET" or _applies("routine", resource, req)) and resp.status_code < 400
        write = log.debug if routine else log.info
        milliseconds = round((perf_counter() - req.context.started) * 1000, 1)
        write("request", method=req.method, path=req.path, status=resp.status_code, ms=milliseconds)


class DatabaseConnection:
    """Opens a PostgreSQL connection for a resource that says `needs_database`, and gives it back after the request.

    A resource that does not say so never waits for PostgreSQL.
    """

    def __init__(self) -> None:
        self._thread = threading.local()

    def process_resource(self, req: falcon.Request, _resp: falcon.Response, resource: Any, _params: Any) -> None:
        self._give_back()  # what a request before this one left, should its end have failed
        if _applies("needs_database", resource, req):
            self._thread.connected = database.connect(reuse_if_open=True)

    def process_response(self, _req: falcon.Request, _resp: falcon.Response, _resource: Any, _succeeded: bool) -> None:
        self._give_back()

    def _give_back(self) -> None:
        if getattr(self._thread, "connected", False):
            self._thread.connected = False
            database.close()


def _applies(trait: str, resource: Any, req: falcon.Request) -> bool:
    """Whether a resource has a trait: True, or a tuple of the methods that have it."""
    found = getattr(resource, trait, False)
    return found if isinstance(found, bool) else req.method in found

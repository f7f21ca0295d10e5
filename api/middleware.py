"""Middleware of every request: request id, log line, check of the origin, and a connection to PostgreSQL if needed."""

import logging
import re
import threading
from http import HTTPStatus
from time import monotonic, perf_counter
from typing import Any

import falcon
import structlog

from actors.runtime import DATABASE_CONNECTIONS
from actors.transport.entry_id import new_id
from api import disconnects, origin, problems
from api.connection_limit import ConnectionLimit
from api.decoding import body
from api.openapi.operation import Resource
from eventpulse.log_sampler import LogSampler
from models.database import database, is_outage

log = structlog.get_logger()
debugging = logging.getLogger(__name__)

#: Pause after a failed attempt to connect to PostgreSQL; until it ends, requests that need PostgreSQL fail immediately.
OUTAGE_HOLD_SECONDS = 1.0
#: Methods of changes; requests with other methods count as reads.
CHANGES = ("POST", "PUT", "PATCH", "DELETE")
#: Maximum number of changes that use PostgreSQL at the same time. A channel test releases its connection.
CHANGE_CONNECTIONS = 4
#: Maximum number of reads that use PostgreSQL at the same time. One connection of the pool is left for cancellations.
READ_CONNECTIONS = DATABASE_CONNECTIONS - CHANGE_CONNECTIONS - 1
MAX_CHANGE_BYTES = 64 * 1024
#: Status in the log if the client did not wait for the response. It is not registered; nginx uses it.
CLIENT_CLOSED_REQUEST = "499 Client Closed Request"
#: Types of bodies that a browser sends for a page of any site without asking the server (CORS-safelisted values,
#: https://fetch.spec.whatwg.org); "" is a request without a body.
FORM_TYPES = ("", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestLog:
    """Middleware that gives each request an id, returns the id in the response, and logs the request.

    If the client sends a valid `X-Request-ID`, its value is the id. Resources read the id from
    `req.context.request_id`; every log line of the request contains the id. Rejected requests are logged as samples:
    otherwise a client could fill the disk with log lines.
    """

    def __init__(self) -> None:
        self._rejections = LogSampler()

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = req.get_header("X-Request-ID")
        request_id = given if given and REQUEST_ID.fullmatch(given) else new_id()
        req.context.request_id = request_id
        req.context.started = perf_counter()
        resp.set_header("X-Request-ID", request_id)
        structlog.contextvars.clear_contextvars()  # remove the values of the previous request on this connection
        structlog.contextvars.bind_contextvars(request_id=request_id)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: Resource | None, _succeeded: bool
    ) -> None:
        # Successful ingest and GET requests are logged only at level debug: otherwise they would fill the log.
        routine = (req.method == "GET" or _applies("routine", resource, req)) and resp.status_code < 400
        if routine and not debugging.isEnabledFor(logging.DEBUG):
            return
        if resp.status_code >= 400 and not self._rejections.admits(of="request", status=resp.status_code):
            return
        write = log.debug if routine else log.info
        milliseconds = round((perf_counter() - req.context.started) * 1000, 1)
        write("request", method=req.method, path=req.path, status=resp.status_code, ms=milliseconds)


class OriginCheck:
    """Middleware that rejects changes that a browser sends for a page of another site (cross-site request forgery).

    For a body of another type, such as JSON, the browser first asks the server, which does not agree. Requests without
    the headers `Origin` and `Sec-Fetch-Site` do not come from a browser. Go makes the same checks in
    `net/http.CrossOriginProtection`.
    """

    def __init__(self, public_url: str | None) -> None:
        self._public_url = public_url

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        if req.method in ("GET", "HEAD", "OPTIONS") or _media_type(req) not in FORM_TYPES:
            return
        site, sender = req.get_header("Sec-Fetch-Site"), req.get_header("Origin")
        if site in ("same-origin", "none") or (site is None and sender is None):
            return
        if sender is None or not origin.is_allowed(sender, req.netloc, self._public_url):
            raise problems.Problem(HTTPStatus.FORBIDDEN, "Cross-origin requests are not allowed")


class DatabaseConnection:
    """Middleware that opens a connection to PostgreSQL for each request that needs one (`Resource.needs_database`).

    Reads and changes have separate limits, so that slow reads never use the connections of changes. A request that
    gets no connection in time is rejected with a 503. A request whose client disconnects during the wait is dropped. If
    the client of a read disconnects later, its query is cancelled; a change continues. Other requests never wait for
    PostgreSQL.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unavailable_until = 0.0
        self._reads = ConnectionLimit(READ_CONNECTIONS)
        self._changes = ConnectionLimit(CHANGE_CONNECTIONS)

    def process_resource(self, req: falcon.Request, _resp: falcon.Response, resource: Resource, _params: Any) -> None:
        if not _applies("needs_database", resource, req):
            return
        is_change = req.method in CHANGES
        if is_change and has_json_body(req):
            # Read before a connection is taken: otherwise a few slow clients could occupy all connections of changes.
            req.context.body = body.read(req, MAX_CHANGE_BYTES)
        limit = self._changes if is_change else self._reads
        must_wait = limit.is_reached
        if not limit.acquire():
            raise problems.unavailable("Too many requests are waiting for PostgreSQL")
        req.context.limit = limit
        if must_wait and _has_disconnected(req):
            raise problems.unavailable("The client has disconnected")
        req.context.connected = self._connect()
        if not is_change:
            disconnects.watch(req.env.get("gunicorn.socket"))

    def _connect(self) -> bool:
        """Connect to PostgreSQL; return whether this call opened the connection.

        Only one request at a time connects. After an attempt that failed because of an outage, other requests get a 503
        without an attempt for `OUTAGE_HOLD_SECONDS`.
        Raises `problems.Problem` during this time, and the database error if the attempt fails.
        """
        with self._lock:
            if monotonic() < self._unavailable_until:
                raise problems.unavailable("PostgreSQL is unavailable")
            try:
                return bool(database.connect(reuse_if_open=True))
            except Exception as error:
                if is_outage(error):
                    self._unavailable_until = monotonic() + OUTAGE_HOLD_SECONDS
                raise

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: Any, _succeeded: bool) -> None:
        had_connection = req.context.get("limit") is not None
        release_connection(req)
        if had_connection and resp.status_code == HTTPStatus.SERVICE_UNAVAILABLE and _has_disconnected(req):
            resp.status = CLIENT_CLOSED_REQUEST


def release_connection(req: falcon.Request) -> None:
    """Release the connection of a request to PostgreSQL, for example before the request waits for another server."""
    limit: ConnectionLimit | None = req.context.get("limit")
    if limit is None:  # the request needs no connection, no route matched, or no connection was free
        return
    req.context.limit = None
    disconnects.watch(None)
    try:
        if req.context.get("connected"):  # absent if the connection failed
            database.close()
    finally:
        limit.release()


def has_json_body(req: falcon.Request) -> bool:
    """Return whether the media type is JSON; its parameters are ignored, because JSON is always UTF-8."""
    return _media_type(req) == falcon.MEDIA_JSON


def _media_type(req: falcon.Request) -> str:
    return (req.content_type or "").partition(";")[0].strip().lower()


def _has_disconnected(req: falcon.Request) -> bool:
    client = req.env.get("gunicorn.socket")
    return client is not None and disconnects.has_disconnected(client)


def _applies(trait: str, resource: Resource | None, req: falcon.Request) -> bool:
    """Return whether `trait`, an attribute of the resource, applies to the method of this request."""
    value = getattr(resource or Resource, trait)
    return value if isinstance(value, bool) else req.method in value

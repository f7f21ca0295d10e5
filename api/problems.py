"""Errors as RFC 9457 problem details: one table maps each exception to a response.

`type` is `/problems/` followed by the title in lower case with hyphens: a stable name that programs can compare.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any

import falcon
import marshmallow
import msgspec
import peewee
import redis
import structlog
from playhouse.pool import MaxConnectionsExceeded

from actors.pipeline.ingest import RETRY_AFTER_SECONDS
from actors.transport.errors import QueueUnavailable
from models import database
from models.rule import TooManyActiveRules
from rules import validation

log = structlog.get_logger()

App = falcon.App[falcon.Request, falcon.Response]
Error = dict[str, Any]  # with the keys "field" and "message", and "index" for an event of a batch

#: Maximum number of errors in one response, so that hostile input cannot make the response larger than the request.
MAX_ERRORS = 1_000
MAX_FIELD_CHARACTERS = 200
RETRY_AFTER_SLOW_QUERY_SECONDS = 30


class Problem(falcon.HTTPError):
    """Error response. Each item of `errors` names an invalid field."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str | None = None,
        errors: Sequence[Error] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, title=title or HTTPStatus(status).phrase, description=detail, headers=headers)
        self.errors = errors


def field_error(field: str, message: str) -> Error:
    """Return an item of `errors` for one field."""
    return {"field": field, "message": message}


def invalid(errors: Sequence[Error], title: str = "Invalid request", status: int = HTTPStatus.BAD_REQUEST) -> Problem:
    """Return a problem with status 400, or `status`, that lists the invalid fields, at most `MAX_ERRORS` of them."""
    detail = f"{len(errors)} error{'s' if len(errors) != 1 else ''}; see `errors`"
    if len(errors) > MAX_ERRORS:
        detail = f"More than {MAX_ERRORS} errors; the first {MAX_ERRORS} are in `errors`"
    return Problem(status, detail, title=title, errors=errors[:MAX_ERRORS])


def too_large(detail: str, errors: Sequence[Error]) -> Problem:
    """Return a problem with status 413."""
    return Problem(413, detail, title="Too large", errors=errors)


def unsupported(header: str, message: str, accepted: dict[str, str]) -> Problem:
    """Return a problem with status 415 for an unsupported value of a request header.

    `accepted`: response headers that list the supported values.
    """
    return Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"The {header} of the request is not supported",
        errors=[field_error(header, message)],
        headers=accepted,
    )


def unavailable(detail: str, retry_after: float = RETRY_AFTER_SECONDS) -> Problem:
    """Return a problem with status 503. `Retry-After` is chosen at random from 50% to 150% of `retry_after`."""
    seconds = max(1, round(retry_after * random.uniform(0.5, 1.5)))  # noqa: S311 - spreads load, protects no secret
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": str(seconds)})


def flatten(messages: Any, root: str = "body") -> Iterator[Error]:
    """Yield an item of `errors` for each message of a `marshmallow.ValidationError`.

    Field names are dotted paths; `root` is the field name of an error that concerns the whole value.
    """
    for path, message in validation.flatten(messages):
        yield field_error(printable(path) or root, message)


def printable(name: str) -> str:
    """Return a name from a request with control characters and lone surrogates escaped, for display in a response.

    A name of more than `MAX_FIELD_CHARACTERS` is cut, and ends with an ellipsis.
    """
    shown = name.encode("utf-8", "backslashreplace").decode()
    shown = re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", shown)
    return shown if len(shown) <= MAX_FIELD_CHARACTERS else f"{shown[:MAX_FIELD_CHARACTERS]}…"


def install(app: App) -> None:
    """Register error handlers that respond with problem details."""
    app.set_error_serializer(_serialize)
    for exception, translate in TABLE.items():
        app.add_error_handler(exception, _handler(translate))


def _queue_unavailable(error: QueueUnavailable) -> Problem:
    return unavailable(str(error), error.retry_after)


def _redis_failed(_error: redis.RedisError) -> Problem:
    return unavailable("Redis is unavailable")


def _database_failed(error: Exception) -> Problem:
    if database.is_outage(error):
        return unavailable("PostgreSQL is unavailable")
    if database.is_too_slow(error):
        return unavailable("PostgreSQL did not finish in time; use narrower filters", RETRY_AFTER_SLOW_QUERY_SECONDS)
    return _unexpected(error)


def _invalid_fields(error: marshmallow.ValidationError) -> Problem:
    return invalid(list(islice(flatten(error.messages), MAX_ERRORS + 1)))


def _too_many_active_rules(error: TooManyActiveRules) -> Problem:
    return Problem(HTTPStatus.CONFLICT, f"{error} (EVENTPULSE_MAX_ACTIVE_RULES)", title="Too many active rules")


def _unexpected(error: Exception) -> Problem:
    log.error("request_failed", exc_info=error)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error; see the server log for this request_id")


TABLE: dict[type[Exception], Callable[[Any], Problem]] = {
    QueueUnavailable: _queue_unavailable,
    redis.RedisError: _redis_failed,
    peewee.PeeweeException: _database_failed,
    MaxConnectionsExceeded: _database_failed,
    marshmallow.ValidationError: _invalid_fields,
    TooManyActiveRules: _too_many_active_rules,
    Exception: _unexpected,
}


def _handler(translate: Callable[[Any], Problem]) -> Callable[..., None]:
    def handle(_req: falcon.Request, _resp: falcon.Response, error: Exception, _params: Any) -> None:
        raise translate(error) from None

    return handle


def _serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    status = HTTPStatus(error.status_code)
    title = error.title if isinstance(error, Problem) and error.title else status.phrase
    problem = {
        "type": "/problems/" + re.sub(r"[^a-z]+", "-", title.lower()),
        "title": title,
        "status": status,
        "detail": error.description or _DETAILS.get(status, status.description or status.phrase),
        "instance": req.path,
        "request_id": req.context.request_id,
    }
    if isinstance(error, Problem) and error.errors:
        problem["errors"] = error.errors
    resp.content_type = "application/problem+json"
    try:
        resp.data = msgspec.json.encode(problem)
    except UnicodeEncodeError:
        # A name from the request was not escaped with `printable`: omit the texts that can contain the name, so that
        # the response can be encoded.
        log.error("problem_not_printable", title=title)
        resp.data = msgspec.json.encode({**problem, "detail": title, "errors": []})


_DETAILS = {
    HTTPStatus.NOT_FOUND: "Path not found",
    HTTPStatus.METHOD_NOT_ALLOWED: "Method not allowed; see the Allow header",
}

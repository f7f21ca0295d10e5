"""Reading of the JSON object in a request to create or change a row, and the check of `If-Match`."""

from itertools import islice
from typing import Any

import falcon

from api import problems
from api.decoding import lenient_json
from api.decoding.event_schema import json_issues
from api.middleware import has_json_body


def read(req: falcon.Request) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises `problems.Problem`: 400 if the body is not a JSON object or contains values that PostgreSQL cannot store, 415
    for another media type.
    """
    if not has_json_body(req):
        accepted = {"Accept": falcon.MEDIA_JSON}
        raise problems.unsupported("Content-Type", f"Must be {falcon.MEDIA_JSON}.", accepted)
    value = lenient_json.parse_single(req.context.body)[0]  # the middleware has read the body
    if not isinstance(value, dict):
        raise problems.invalid([problems.field_error("body", "Must be an object.")])
    issues = islice(json_issues(value), problems.MAX_ERRORS)
    if errors := [problems.field_error(problems.printable(".".join(path)), issue) for path, issue in issues]:
        raise problems.invalid(errors)
    return value


def check_version(req: falcon.Request, version: int) -> None:
    """Raise a problem with status 412 if `If-Match` is present and contains neither `version` nor `*`."""
    if req.if_match is not None and not {"*", str(version)} & set(req.if_match):
        raise problems.Problem(412, f"If-Match does not match; the current version is {version}")

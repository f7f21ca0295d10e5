"""The JSON objects that admins send, and the version they mean to change."""

from itertools import islice
from typing import Any

import falcon

from api import problems
from api.decoding import body
from api.decoding.event_schema import json_issues

MAX_BYTES = 64 * 1024


def read(req: falcon.Request) -> dict[str, Any]:
    """The JSON object of a request. Raises `problems.Problem`: 415, 413, or 400 with what is wrong and where."""
    if (req.content_type or "").partition(";")[0].strip().lower() != falcon.MEDIA_JSON:
        raise problems.unsupported("Content-Type", f"must be {falcon.MEDIA_JSON}", {"Accept": falcon.MEDIA_JSON})
    document = body.read_json(req, MAX_BYTES)
    if not isinstance(document, dict):
        raise problems.invalid([{"field": "body", "message": "must be an object"}])
    found = ({"field": problems.printable(".".join(path)), "message": flaw} for path, flaw in json_issues(document))
    if errors := list(islice(found, problems.MAX_ERRORS)):
        raise problems.invalid(errors)
    return document


def check_version(req: falcon.Request, version: int) -> None:
    """Hold `If-Match`, if there is one, against the version of a row. Raises a 412 when it means another."""
    if req.if_match is not None and not {"*", str(version)} & set(req.if_match):
        raise problems.Problem(412, f"If-Match asks for another version; the current one is {version}")

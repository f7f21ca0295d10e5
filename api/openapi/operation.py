"""Routes, and the OpenAPI descriptions of their operations."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from marshmallow import Schema

from api.openapi.response_schemas import JsonSchema, page_of, ref

JSON, NDJSON = "application/json", "application/x-ndjson"

RESPONDER = re.compile(r"on_([a-z]+)_?([a-z_]*)")

Body = JsonSchema | Schema | type[Schema]


@dataclass(frozen=True)
class Operation:
    """Description of one method of one path.

    summary: one sentence, without a full stop.
    answer: JSON schema of the body of a successful response; None if the response has no body.
    status: HTTP status of a successful response.
    query: schema that checks the query string.
    body: schema of the request body, by media type.
    example: example of a request body.
    failures: HTTP statuses of the possible errors.
    """

    summary: str
    answer: JsonSchema | None = None
    status: int = 200
    query: type[Schema] | None = None
    body: Mapping[str, Body] = field(default_factory=dict)
    example: Any = None
    failures: tuple[int, ...] = ()


class Resource:
    """Base class of the Falcon resources of the API, with the description of their operations.

    operations: operation by name of the responder, such as `on_get` or, with a suffix, `on_get_one`.
    schemas: JSON schemas of responses by name, for `ref`.
    needs_database: HTTP methods whose requests need a connection to PostgreSQL; True for all methods, False for none.
    routine: HTTP methods, besides GET, whose successful requests are logged at level debug; True for all methods.
    """

    operations: ClassVar[Mapping[str, Operation]]
    schemas: ClassVar[Mapping[str, JsonSchema]] = {}
    needs_database: ClassVar[bool | tuple[str, ...]] = True
    routine: ClassVar[bool | tuple[str, ...]] = False


class Route(NamedTuple):
    """Path, its resource, and the suffix of the responders for this path."""

    path: str
    resource: Resource
    suffix: str = ""

    def operations(self) -> dict[str, Operation]:
        """Return the operations of this path, by method in lower case."""
        found = {RESPONDER.fullmatch(name): operation for name, operation in self.resource.operations.items()}
        return {match[1]: operation for match, operation in found.items() if match and match[2] == self.suffix}


def mount(path: str, resource: Resource, **subpaths: str) -> list[Route]:
    """Return the routes of a resource: `path`, and `path` followed by each subpath.

    The name of a subpath is the suffix of its responders.
    """
    return [Route(path, resource), *(Route(path + subpath, resource, suffix) for suffix, subpath in subpaths.items())]


def listing(summary: str, name: str, query: type[Schema], *failures: int) -> Operation:
    """Return the description of an operation that lists rows with the schema `name` in pages."""
    return Operation(summary, page_of(name), query=query, failures=tuple(sorted((400, 503, *failures))))


def reading(summary: str, name: str) -> Operation:
    """Return the description of an operation that reads one row with the schema `name`."""
    return Operation(summary, ref(name), failures=(400, 404, 503))


def writing(summary: str, name: str, body: Body, example: Any, *failures: int, status: int = 200) -> Operation:
    """Return the description of an operation that stores a row from a JSON body; the response has the schema `name`."""
    failures = tuple(sorted((400, 413, 415, 503, *failures)))
    return Operation(summary, ref(name), status, body={JSON: body}, example=example, failures=failures)

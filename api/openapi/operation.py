"""Descriptions of operations and routes. Each resource describes its own operations."""

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
    """One method of one path.

    summary: one sentence for the reader of the document.
    answer: JSON schema of a successful answer; None for an answer without a body.
    status: status of a successful answer.
    query: schema that checks the query string.
    body: schema of the request body, by media type; `example` is one of them.
    failures: statuses of the errors.
    """

    summary: str
    answer: JsonSchema | None = None
    status: int = 200
    query: type[Schema] | None = None
    body: Mapping[str, Body] = field(default_factory=dict)
    example: Any = None
    failures: tuple[int, ...] = ()


class Resource:
    """Base of the Falcon resources of the API, which describe themselves.

    operations: descriptions by the name of the responder, for example `on_get` or, with a suffix, `on_get_one`.
    schemas: JSON schemas of its answers by name, for `ref`.
    needs_database: whether requests need a connection to PostgreSQL, or the methods that do.
    routine: whether successful requests are logged at level debug, or the methods for which they are.
    """

    operations: ClassVar[Mapping[str, Operation]]
    schemas: ClassVar[Mapping[str, JsonSchema]] = {}
    needs_database: ClassVar[bool | tuple[str, ...]] = True
    routine: ClassVar[bool | tuple[str, ...]] = False


class Route(NamedTuple):
    """A path, its resource, and the suffix of the responders that answer it."""

    path: str
    resource: Resource
    suffix: str = ""

    def operations(self) -> dict[str, Operation]:
        """Return the operations at this path by their method in lower case."""
        found = {RESPONDER.fullmatch(name): operation for name, operation in self.resource.operations.items()}
        return {match[1]: operation for match, operation in found.items() if match and match[2] == self.suffix}


def mount(path: str, resource: Resource, **subpaths: str) -> list[Route]:
    """Return the routes of a resource: `path`, and each subpath for the responders whose suffix is its name."""
    return [Route(path, resource), *(Route(path + subpath, resource, suffix) for suffix, subpath in subpaths.items())]


def listing(summary: str, name: str, query: type[Schema], *failures: int) -> Operation:
    """Describe a list of pages of the schema `name`."""
    return Operation(summary, page_of(name), query=query, failures=tuple(sorted((400, 503, *failures))))


def reading(summary: str, name: str) -> Operation:
    """Describe reading one row of the schema `name`."""
    return Operation(summary, ref(name), failures=(400, 404, 503))


def writing(summary: str, name: str, body: Body, example: Any, *failures: int, status: int = 200) -> Operation:
    """Describe a request with a JSON body that answers a row of the schema `name`."""
    failures = tuple(sorted((400, 413, 415, 503, *failures)))
    return Operation(summary, ref(name), status, body={JSON: body}, example=example, failures=failures)

"""Base class of resources that create, change and delete rows; each change gives the row a new version.

Subclasses set the class attributes. `on_*` handles requests for the collection, `on_*_one` for one row.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, ClassVar

import falcon
import peewee
from marshmallow import Schema

from api import problems
from api.openapi.operation import Operation, Resource, listing, reading, writing
from api.resources import json_body
from api.resources.lookup import find
from api.resources.paging import Order, page
from api.resources.query_params import Page


class CrudResource(Resource):
    """Resource for the collection and the rows of a model.

    The `ETag` of a row is its version. A change with `If-Match` requires that version.

    model: model with a column `version` and the methods `change(**fields)` and `remove()`; both methods return False if
        another version is stored.
    schema: schema of the request body.
    read_only: fields that the server sets; they are ignored in requests, so that clients can send rows back unchanged.
    newest_first: sort key of the list, descending.
    unique_field: field whose values must be unique; a 409 response names the field.
    """

    model: ClassVar[Any]
    schema: ClassVar[Schema]
    read_only: ClassVar[frozenset[str]]
    newest_first: ClassVar[Order]
    unique_field: ClassVar[str]

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = page(Page().load(req.params), self.newest_first, self.public)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        fields = self.validated(json_body.read(req))
        with self._unique():
            row = self.create(fields)
        resp.status = falcon.HTTP_201
        resp.location = f"{req.path}/{row.get_id()}"
        self._answer_written(row, resp)

    def on_get_one(self, _req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        self._answer(find(self.model, path), resp)

    def on_put_one(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        row = find(self.model, path)
        self._change(row, json_body.read(req), req)
        self._answer_written(find(self.model, path), resp)

    def on_patch_one(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        row = find(self.model, path)
        self._change(row, self.public(row) | json_body.read(req), req)
        self._answer_written(find(self.model, path), resp)

    def on_delete_one(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        row = find(self.model, path)
        json_body.check_version(req, row.version)
        if not row.remove():
            raise self.version_conflict(req)
        self.after_change()
        resp.status = falcon.HTTP_204

    def public(self, row: Any) -> dict[str, Any]:
        """Return the public fields of a row."""
        return dict(row.__data__)

    def create(self, fields: Mapping[str, Any]) -> Any:
        """Store and return a new row.

        Raises `peewee.IntegrityError`, or the problem of `duplicate`, if another row has the value of the unique field.
        """
        return self.model.create(**fields)

    def change(self, row: Any, fields: dict[str, Any]) -> bool:
        """Store the next version of a row; return False if another request has changed it."""
        changed: bool = row.change(**fields)
        return changed

    def completed(self, row: Any, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - for subclasses
        """Return the body of a change, completed with values from the stored row."""
        return body

    def after_change(self) -> None:
        """Publish a stored change to other processes. Does nothing by default."""

    def warnings(self, row: Any) -> list[str]:  # noqa: ARG002 - for subclasses
        """Return warnings about a valid row, for the response to a write."""
        return []

    def validated(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the validated fields of a request body, with defaults. Raises `marshmallow.ValidationError`."""
        fields: dict[str, Any] = self.schema.load(
            {name: value for name, value in body.items() if name not in self.read_only}
        )
        return fields

    def version_conflict(self, req: falcon.Request) -> problems.Problem:
        """Return a problem with status 412 for a request with `If-Match`, otherwise with status 409."""
        status = HTTPStatus.PRECONDITION_FAILED if req.if_match else HTTPStatus.CONFLICT
        return problems.Problem(status, f"The {self._noun} was modified by another request")

    def _change(self, row: Any, body: dict[str, Any], req: falcon.Request) -> None:
        """Store the next version of `row`.

        Raises `problems.Problem`: 412 if `If-Match` does not match, 412 or 409 if another request has changed the row,
        409 if the value of the unique field is in use. Raises `marshmallow.ValidationError` if the body is invalid.
        """
        json_body.check_version(req, row.version)
        fields = self.validated(self.completed(row, body))
        with self._unique():
            changed = self.change(row, fields)
        if not changed:
            raise self.version_conflict(req)

    def _answer(self, row: Any, resp: falcon.Response) -> None:
        resp.etag = str(row.version)
        resp.media = self.public(row)

    def _answer_written(self, row: Any, resp: falcon.Response) -> None:
        self._answer(row, resp)
        if found := self.warnings(row):
            resp.media["warnings"] = found
        self.after_change()

    @contextmanager
    def _unique(self) -> Iterator[None]:
        try:
            yield
        except peewee.IntegrityError as error:
            raise self.duplicate() from error

    def duplicate(self) -> problems.Problem:
        """Return a problem with status 409 for a value of the unique field that another row has."""
        return problems.Problem(HTTPStatus.CONFLICT, f"A {self._noun} with this {self.unique_field} already exists")

    @property
    def _noun(self) -> str:
        return str(self.model.__name__).lower()


def operations(
    name: str, schema: type[Schema], example: Any, *failures: int, written: str | None = None
) -> dict[str, Operation]:
    """Return the operations of a `CrudResource` whose rows have the schema `name`.

    `failures`: additional HTTP statuses of failed writes. `written`: schema of the response to a write, by default the
    schema `name`.
    """
    noun, written = name.lower(), written or name
    changing = (404, 409, 412, *failures)
    return {
        "on_get": listing(f"List the {noun}s, newest first", name, Page),
        "on_post": writing(f"Create a {noun}", written, schema, example, 409, *failures, status=201),
        "on_get_one": reading(f"Get a {noun}; the ETag header contains its version", name),
        "on_put_one": writing(f"Replace a {noun}", written, schema, example, *changing),
        "on_patch_one": writing(
            f"Change some fields of a {noun}; nested objects are replaced completely",
            written,
            schema(partial=True),
            {"enabled": False},
            *changing,
        ),
        "on_delete_one": Operation(f"Delete a {noun}", status=204, failures=(400, 403, 404, 409, 412, 503)),
    }

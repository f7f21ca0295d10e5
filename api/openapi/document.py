"""`/api/v1/openapi.json`: the operations of every route, and the schemas of requests and responses."""

import re
from functools import cached_property
from http import HTTPStatus
from typing import Any

import falcon
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema
from marshmallow.fields import Field

from api.decoding.event_schema import MAX_NAME_CHARACTERS, NameField
from api.openapi.operation import Operation, Resource, Route
from api.openapi.response_schemas import SHARED_SCHEMAS, UUID, ref
from rules.conditions import CONDITIONS
from rules.rule import ConditionField

API_VERSION = "1.0"
IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "description": "ETag of the version to change; the response is 412 if another version is stored",
    "schema": {"type": "string"},
}


class DocumentResource(Resource):
    """`GET /api/v1/openapi.json`. `routes`: the routes that the document describes."""

    operations = {"on_get": Operation("Get the OpenAPI document", {"type": "object"})}
    needs_database = False

    routes: list[Route]

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = self.document

    @cached_property
    def document(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
        spec = APISpec("EventPulse", API_VERSION, "3.1.0", plugins=[plugin])
        assert plugin.converter is not None
        for describe in (_name_length, _any_condition):
            plugin.converter.add_attribute_function(describe)  # type: ignore[no-untyped-call] # apispec is untyped
        for name, schema in SHARED_SCHEMAS.items():
            spec.components.schema(name, schema)
        for resource in {id(route.resource): route.resource for route in self.routes}.values():
            for name, schema in resource.schemas.items():
                spec.components.schema(name, schema)
        for kind, condition in CONDITIONS.items():
            spec.components.schema(_condition_name(kind), schema=condition)
        for route in self.routes:
            operations = {method: _operation(method, route.path, it) for method, it in route.operations().items()}
            spec.path(route.path, operations=operations, parameters=_path_parameters(route.path))
        return spec.to_dict()


def _operation(method: str, path: str, known: Operation) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(known.status).phrase}
    if known.answer is not None:
        success["content"] = {falcon.MEDIA_JSON: {"schema": known.answer}}
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method}{path.removeprefix('/api/v1')}").strip("_"),
        "summary": known.summary,
        "responses": {str(known.status): success} | {str(status): _failure(status) for status in known.failures},
    }
    operation["parameters"] = [{"in": "query", "schema": known.query}] if known.query else []
    if HTTPStatus.PRECONDITION_FAILED in known.failures:
        operation["parameters"].append(IF_MATCH)
    if known.body:
        content = {kind: {"schema": schema} for kind, schema in known.body.items()}
        content[falcon.MEDIA_JSON]["example"] = known.example
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _failure(status: int) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": ref("Problem")}}
    return {"description": HTTPStatus(status).phrase, "content": problem}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    """Return the descriptions of the variables of a path; every variable is an id."""
    names = re.findall(r"{(\w+)}", path)
    return [{"in": "path", "name": name, "required": True, "schema": UUID} for name in names]


def _schema_name(schema: type[Schema] | Schema) -> str:
    """Return the name of a request schema: `RuleInput` for `RuleSchema`, `RulePatch` if all fields are optional."""
    kind = schema if isinstance(schema, type) else type(schema)
    partial = isinstance(schema, Schema) and schema.partial
    return kind.__name__.removesuffix("Schema") + ("Patch" if partial else "Input")


def _condition_name(kind: str) -> str:
    return CONDITIONS[kind].__name__.removesuffix("Schema") + "Condition"


def _name_length(_converter: Any, field: Field[Any], **_: Any) -> dict[str, Any]:
    return {"minLength": 1, "maxLength": MAX_NAME_CHARACTERS} if isinstance(field, NameField) else {}


def _any_condition(_converter: Any, field: Field[Any], **_: Any) -> dict[str, Any]:
    if not isinstance(field, ConditionField):
        return {}
    mapping = {kind: ref(_condition_name(kind))["$ref"] for kind in CONDITIONS}
    choices = [{"$ref": target} for target in mapping.values()]
    return {"oneOf": choices, "discriminator": {"propertyName": "type", "mapping": mapping}}

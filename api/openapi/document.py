"""`/api/v1/openapi.json`: the routes of Falcon, the words of `operations.py`, the schemas that check requests."""

import re
from functools import cached_property
from http import HTTPStatus
from typing import Any

import falcon
import falcon.inspect
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema
from marshmallow.fields import Field

from api.decoding.event_schema import MAX_NAME_CHARACTERS, NameField
from api.openapi.operations import OPERATIONS, Operation
from api.openapi.response_schemas import SHAPES, UUID, ref
from api.problems import App
from rules.rule import CONDITIONS, ConditionField

API_VERSION = "1.0"
IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "description": "the ETag of the version to change; 412 when there is a newer one",
    "schema": {"type": "string"},
}
#: A route without words is in the document all the same; a test finds it there.
UNDESCRIBED = Operation("")


class Document:
    """The description of an application, made when it is first asked for: all routes are there then."""

    def __init__(self, app: App) -> None:
        self._app = app

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.media = self.document

    @cached_property
    def document(self) -> dict[str, Any]:
        plugin = MarshmallowPlugin(schema_name_resolver=_name)
        spec = APISpec("EventPulse", API_VERSION, "3.1.0", plugins=[plugin])
        assert plugin.converter is not None
        for describe in (_name_length, _any_condition):
            plugin.converter.add_attribute_function(describe)  # type: ignore[no-untyped-call] # apispec has no types for it
        for name, shape in SHAPES.items():
            spec.components.schema(name, shape)
        for kind, schema in CONDITIONS.items():
            spec.components.schema(_condition(kind), schema=schema)
        for route in falcon.inspect.inspect_routes(self._app):
            methods = [method.method for method in route.methods if not method.internal]
            operations = {method.lower(): _operation(method, route.path) for method in methods}
            spec.path(route.path, operations=operations, parameters=_path_parameters(route.path))
        return spec.to_dict()


def _operation(method: str, path: str) -> dict[str, Any]:
    known = OPERATIONS.get(f"{method} {path}", UNDESCRIBED)
    success: dict[str, Any] = {"description": HTTPStatus(known.status).phrase}
    if known.answer is not None:
        success["content"] = {falcon.MEDIA_JSON: {"schema": known.answer}}
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()}{path.removeprefix('/api/v1')}").strip("_"),
        "summary": known.summary,
        "responses": {str(known.status): success} | {str(status): _failure(status) for status in known.fails},
    }
    operation["parameters"] = [{"in": "query", "schema": known.query}] if known.query else []
    if HTTPStatus.PRECONDITION_FAILED in known.fails:
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
    """All that is variable in our paths are ids."""
    names = re.findall(r"{(\w+)}", path)
    return [{"in": "path", "name": name, "required": True, "schema": UUID} for name in names]


def _name(schema: type[Schema] | Schema) -> str:
    """`RuleSchema` is what is sent for a Rule: RuleInput, or RulePatch when all of it is optional."""
    kind = schema if isinstance(schema, type) else type(schema)
    partial = isinstance(schema, Schema) and schema.partial
    return kind.__name__.removesuffix("Schema") + ("Patch" if partial else "Input")


def _condition(kind: str) -> str:
    return CONDITIONS[kind].__name__.removesuffix("Schema") + "Condition"


def _name_length(_converter: Any, field: Field[Any], **_: Any) -> dict[str, Any]:
    return {"minLength": 1, "maxLength": MAX_NAME_CHARACTERS} if isinstance(field, NameField) else {}


def _any_condition(_converter: Any, field: Field[Any], **_: Any) -> dict[str, Any]:
    if not isinstance(field, ConditionField):
        return {}
    mapping = {kind: ref(_condition(kind))["$ref"] for kind in CONDITIONS}
    choices = [{"$ref": target} for target in mapping.values()]
    return {"oneOf": choices, "discriminator": {"propertyName": "type", "mapping": mapping}}

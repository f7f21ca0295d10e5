"""Tests that the OpenAPI document matches the routes, the schemas and the responses."""

import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import falcon.inspect
import msgspec
import pytest
from falcon.testing import TestClient
from marshmallow import Schema

from api.resources.anomalies import AnomalyQuery
from api.resources.channels import EXAMPLE as CHANNEL
from api.resources.events import EXAMPLE as EVENT
from api.resources.events import EventQuery
from api.resources.rules import EXAMPLE as RULE
from models.event import Event


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    answer = client.simulate_get("/api/v1/openapi.json")
    assert answer.status_code == 200
    return answer.json


def resolve(document: dict[str, Any], pointer: str) -> Any:
    """Return the part of the document that a `$ref` points to."""
    target: Any = document
    for step in pointer.removeprefix("#/").split("/"):
        target = target[step]
    return target


def test_exactly_the_served_routes_and_methods_are_described(client: TestClient, document: dict[str, Any]) -> None:
    routes = falcon.inspect.inspect_routes(client.app)
    served = {f"{method.method} {route.path}" for route in routes for method in route.methods if not method.internal}
    described = {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }
    assert described.keys() == served
    assert all(operation["summary"] for operation in described.values())
    assert len({operation["operationId"] for operation in described.values()}) == len(described)


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    assert references
    assert all(resolve(document, reference) for reference in references)


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert document["info"].keys() >= {"title", "version"}


@pytest.mark.parametrize(("path", "schema"), [("/api/v1/events", EventQuery), ("/api/v1/anomalies", AnomalyQuery)])
def test_the_described_query_parameters_are_those_of_the_schema(
    document: dict[str, Any], path: str, schema: type[Schema]
) -> None:
    described = {parameter["name"] for parameter in document["paths"][path]["get"]["parameters"]}
    assert described == {field.data_key or name for name, field in schema().fields.items()}


def test_path_parameters_are_described_as_uuids(document: dict[str, Any]) -> None:
    (parameter,) = document["paths"]["/api/v1/rules/{rule_id}"]["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("rule_id", "path", True)
    assert parameter["schema"]["format"] == "uuid"


def test_errors_are_described_as_problems(client: TestClient, document: dict[str, Any]) -> None:
    described = document["paths"]["/api/v1/events"]["get"]["responses"]["400"]["content"]["application/problem+json"]
    problem = resolve(document, described["schema"]["$ref"])
    answer = client.simulate_get("/api/v1/events", params={"limit": "x"})
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(problem["required"]) <= answer.json.keys() <= problem["properties"].keys()


def test_changes_of_versioned_rows_accept_if_match(document: dict[str, Any]) -> None:
    with_if_match = {
        (method, path)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters" and "If-Match" in [parameter["name"] for parameter in operation["parameters"]]
    }
    paths = ("/api/v1/rules/{rule_id}", "/api/v1/channels/{channel_id}")
    assert with_if_match == {(method, path) for method in ("put", "patch", "delete") for path in paths}


def test_a_condition_has_a_schema_for_each_type(document: dict[str, Any]) -> None:
    condition = document["components"]["schemas"]["RuleInput"]["properties"]["condition"]
    for kind, reference in condition["discriminator"]["mapping"].items():
        assert resolve(document, reference)["properties"]["type"]["enum"] == [kind]


def test_the_examples_are_accepted(client: TestClient, document: dict[str, Any]) -> None:
    for path, example in [("events", EVENT), ("events/batch", [EVENT]), ("rules", RULE), ("channels", CHANNEL)]:
        operation = document["paths"][f"/api/v1/{path}"]["post"]
        assert operation["requestBody"]["content"]["application/json"]["example"] == example
        answer = client.simulate_post(f"/api/v1/{path}", json=example)
        assert str(answer.status_code) in operation["responses"], answer.text
        assert answer.status_code < 300


def test_rows_have_exactly_the_described_fields(client: TestClient, db: None, document: dict[str, Any]) -> None:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    event = {"event_id": uuid4(), "timestamp": at, "received_at": at, "payload": {}, "metadata": {}}
    Event.store([msgspec.json.encode(event | {"event_type": "error", "source": "web"})])
    rows = {
        "Event": client.simulate_get("/api/v1/events").json["data"][0],
        "Rule": client.simulate_post("/api/v1/rules", json=RULE).json,
        "Channel": client.simulate_post("/api/v1/channels", json=CHANNEL).json,
        "Metrics": client.simulate_get("/api/v1/metrics").json,
        "Pagination": client.simulate_get("/api/v1/rules").json["pagination"],
    }
    for name, row in rows.items():
        described = document["components"]["schemas"][name]
        assert row.keys() == described["properties"].keys() == set(described["required"]), name

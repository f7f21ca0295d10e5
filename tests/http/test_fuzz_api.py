"""Tests that the API conforms to its OpenAPI document for requests that schemathesis generates."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
import schemathesis
from falcon.testing import TestClient
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.fuzz_settings import examples
from support.pipeline_factory import event

from api.app import routes
from api.resources.channels import EXAMPLE as CHANNEL
from api.resources.events import EXAMPLE as EVENT
from api.resources.rules import EXAMPLE as RULE
from eventpulse.settings import Settings
from models.anomaly import Anomaly
from models.channel import Channel
from models.database import connection
from models.event import Event
from models.rule import Rule

CONFORMANCE = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
DOCUMENT = "/api/v1/openapi.json"
OPERATIONS = {
    f"{method.upper()} {route.path}": operation
    for route in routes(Settings())
    for method, operation in route.operations().items()
}
CHANNEL_TEST = "POST /api/v1/channels/{channel_id}/test"
#: Names of the operations with a body or parameters. A request for any other operation cannot be invalid.
WITH_INPUT = [name for name, operation in OPERATIONS.items() if operation.body or operation.query or "{" in name]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def ids(client: TestClient) -> Iterator[dict[str, str]]:
    """Store an event, an anomaly, a rule and a channel; return their ids by the names of the path parameters.

    After the test, delete the new channels.
    """
    with connection():
        before = [channel.channel_id for channel in Channel.select()]
        row = event()
        Event.store([row])
        anomaly = Anomaly.create(
            dedupe_key="1",
            series="rule:group",
            cooldown_anchor=NOON,
            rule_id=UUID(int=1),
            rule_name="High error rate",
            rule_version=3,
            severity="critical",
            group_key='{"source": "payments"}',
            event_id=UUID(int=2),
            message="many errors",
            evidence={"observed": 6, "threshold": 5, "samples": []},
            occurred_at=NOON,
        )
        rule = Rule.add(**RULE, allowed_lateness_seconds=60)
        channel = Channel.create(**CHANNEL)
    yield {
        "event_id": msgspec.json.decode(row)["event_id"],
        "anomaly_id": str(anomaly.anomaly_id),
        "rule_id": str(rule.rule_id),
        "channel_id": str(channel.channel_id),
    }
    with connection():
        Channel.delete().where(Channel.channel_id.not_in(before)).execute()


@pytest.mark.parametrize("name", OPERATIONS)
def test_responses_to_valid_requests_conform_to_the_document(
    name: str, client: TestClient, ids: dict[str, str]
) -> None:
    if name == CHANNEL_TEST:  # the test of a Slack channel would send a request to another host
        with connection():
            ids["channel_id"] = str(Channel.get(kind="console").channel_id)
    fuzz(name, GenerationMode.POSITIVE, client, ids)


@pytest.mark.parametrize("name", WITH_INPUT)
def test_responses_to_invalid_requests_conform_to_the_document(
    name: str, client: TestClient, ids: dict[str, str]
) -> None:
    fuzz(name, GenerationMode.NEGATIVE, client, ids)


@pytest.mark.parametrize("batch", [[], {}, {"events": []}, {"events": [EVENT], "more": 1}])
def test_a_batch_that_the_document_does_not_allow_is_rejected(batch: object, client: TestClient) -> None:
    operation = client.simulate_get(DOCUMENT).json["paths"]["/api/v1/events/batch"]["post"]
    listed, wrapped = operation["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert listed["minItems"] == wrapped["properties"]["events"]["minItems"] == 1
    assert (wrapped["required"], wrapped["additionalProperties"]) == (["events"], False)
    assert client.simulate_post("/api/v1/events/batch", json=batch).status_code == 400


def fuzz(name: str, mode: GenerationMode, client: TestClient, ids: dict[str, str]) -> None:
    method, path = name.split()
    operation = schemathesis.openapi.from_wsgi(DOCUMENT, client.app)[path][method]

    @examples(8)
    @given(operation.as_strategy(generation_mode=mode), st.booleans())
    def holds(case: Case[Any], of_a_row: bool) -> None:
        if of_a_row and mode is GenerationMode.POSITIVE:
            case.path_parameters |= {name: ids[name] for name in case.path_parameters}
        answer = case.call_and_validate(checks=CONFORMANCE)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == ["application/problem+json"]

    holds()

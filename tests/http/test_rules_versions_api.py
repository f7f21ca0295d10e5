"""Tests of warnings, limits, keys and versions of rules over HTTP."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from falcon.testing import TestClient
from support.http_rules import RULE, add, fields_named, path

from models.rule import Rule


@pytest.mark.parametrize("operator", ["<", "<=", "==", "!="])
def test_a_write_of_a_rule_that_fires_on_arrival_only_returns_a_warning(client: TestClient, operator: str) -> None:
    changed = {"condition": RULE["condition"] | {"operator": operator}}
    rule = add(client)
    answers = [
        client.simulate_post("/api/v1/rules", json=RULE | changed),
        client.simulate_put(path(rule), json=RULE | changed),
        client.simulate_patch(path(rule), json=changed),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 200]
    assert all(f"The operator {operator} " in answer.json["warnings"][0] for answer in answers)
    assert "warnings" not in rule
    assert "warnings" not in client.simulate_get(path(rule)).json


def test_a_rule_with_warnings_can_be_sent_back(client: TestClient) -> None:
    rule = add(client, condition=RULE["condition"] | {"operator": "<"})
    answer = client.simulate_put(path(rule), json=rule)
    assert (answer.status_code, answer.json["warnings"]) == (200, rule["warnings"])


def test_a_filter_with_too_many_values_is_rejected_with_422_and_its_path(client: TestClient, db: None) -> None:
    def condition(count: int) -> dict[str, Any]:
        return RULE["condition"] | {"filters": {"payload.code": list(range(count))}}

    answer = client.simulate_post("/api/v1/rules", json=RULE | {"condition": condition(1_001)})
    assert (answer.status_code, fields_named(answer)) == (422, ["condition.filters.payload.code"])
    assert answer.json["errors"][0]["message"] == "Must have at most 1000 values."
    answer = client.simulate_post("/api/v1/rules", json=RULE | {"name": "", "condition": condition(1_001)})
    assert (answer.status_code, len(answer.json["errors"])) == (400, 2)
    assert Rule.select().count() == 0
    assert client.simulate_post("/api/v1/rules", json=RULE | {"condition": condition(1_000)}).status_code == 201


def test_two_rules_cannot_have_the_same_key(client: TestClient) -> None:
    add(client, key="errors")
    other = add(client, key="others")
    for answer in (
        client.simulate_post("/api/v1/rules", json=RULE | {"key": "errors"}),
        client.simulate_patch(path(other), json={"key": "errors"}),
    ):
        assert (answer.status_code, answer.json["detail"]) == (409, "A rule with this key already exists")
    assert client.simulate_get(path(other)).json == other


def test_the_versions_of_a_rule_are_listed_newest_first_in_pages(client: TestClient, db: None) -> None:
    rule = add(client, name="first")
    client.simulate_patch(path(rule), json={"name": "second"})
    Rule.suspend(UUID(rule["rule_id"]), 2, "division by zero")
    add(client)
    page = client.simulate_get(f"{path(rule)}/versions", params={"limit": 2}).json
    suspended, changed = page["data"]
    assert (suspended["change"], suspended["reason"], suspended["version"]) == ("suspended", "division by zero", 2)
    assert (changed["change"], changed["reason"], changed["version"]) == ("changed", None, 2)
    assert changed["rule"]["name"] == "second"
    rest = client.simulate_get(f"{path(rule)}/versions", params={"cursor": page["pagination"]["next_cursor"]}).json
    (created,) = rest["data"]
    assert created == {
        "rule_version_id": created["rule_version_id"],
        "rule_id": rule["rule_id"],
        "version": 1,
        "change": "created",
        "reason": None,
        "rule": created["rule"],
        "changed_at": created["changed_at"],
    }
    assert {name: created["rule"][name] for name in RULE} == RULE | {"name": "first"}


def test_the_versions_of_a_deleted_rule_remain(client: TestClient) -> None:
    rule = add(client)
    client.simulate_delete(path(rule))
    versions = client.simulate_get(f"{path(rule)}/versions").json["data"]
    assert [version["change"] for version in versions] == ["deleted", "created"]


def test_versions_of_an_unknown_rule_get_404_and_an_invalid_id_400(client: TestClient) -> None:
    assert client.simulate_get(f"/api/v1/rules/{uuid4()}/versions").status_code == 404
    answer = client.simulate_get("/api/v1/rules/7/versions")
    assert (answer.status_code, fields_named(answer)) == (400, ["rule_id"])

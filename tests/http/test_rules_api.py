"""Tests of rules over HTTP."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import redis
from falcon.testing import TestClient
from support.api_server import api_settings
from support.http_rules import RULE, add, fields_named, path
from support.storm_factory import store_storm
from support.waiting import until

from actors.rule_state import report
from actors.rule_state.report import Cost, Degradation, RuleState
from actors.rule_state.rulebook import REVISION, SNAPSHOT
from api.app import create_app
from models.database import database
from models.rule import Rule


def published(client: redis.Redis) -> dict[str, Any]:
    """Return the published rules by name."""
    snapshot: Any = client.get(SNAPSHOT)
    return {rule["name"]: rule for rule in msgspec.json.decode(snapshot)["rules"]}


def test_a_created_rule_is_returned_with_the_fields_of_the_server(client: TestClient) -> None:
    answer = client.simulate_post("/api/v1/rules", json=RULE)
    rule = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == path(rule)
    assert answer.headers["ETag"] == '"1"'
    added = {"rule_id", "version", "status", "status_reason", "created_at", "updated_at", "allowed_lateness_seconds"}
    added |= {"key", "labels", "description", "runbook_url", "storming_since"}
    added |= {"state_bytes", "series", "degraded", "uncounted_events", "cost"}
    assert {name: value for name, value in rule.items() if name not in added} == RULE
    assert rule.keys() == RULE.keys() | added
    assert (rule["version"], rule["status"], rule["status_reason"]) == (1, "active", None)
    assert str(UUID(rule["rule_id"])) == rule["rule_id"]
    assert rule["created_at"].endswith("Z")
    read = client.simulate_get(path(rule))
    assert (read.json, read.headers["ETag"]) == (rule, '"1"')


def test_rules_are_listed_by_pages_newest_first(client: TestClient) -> None:
    names = [add(client, name=f"rule {n}")["name"] for n in range(3)]
    page = client.simulate_get("/api/v1/rules", params={"limit": 2}).json
    assert [rule["name"] for rule in page["data"]] == names[:0:-1]
    rest = client.simulate_get("/api/v1/rules", params={"cursor": page["pagination"]["next_cursor"]}).json
    assert [rule["name"] for rule in rest["data"]] == names[:1]


def test_a_rule_in_a_long_storm_is_storming_until_it_is_changed(client: TestClient, db: None) -> None:
    rule, quiet = add(client), add(client, name="quiet")
    store_storm(rule)
    (first, second) = client.simulate_get("/api/v1/rules").json["data"]
    assert (first["name"], first["status"], first["storming_since"]) == ("quiet", "active", None)
    assert (second["status"], second["storming_since"]) == ("storming", "2026-11-20T12:00:00Z")
    assert client.simulate_get(path(rule)).json == second
    assert client.simulate_get(path(quiet)).json == first
    changed = client.simulate_patch(path(rule), json={"cooldown_seconds": 600}).json
    assert (changed["status"], changed["storming_since"]) == ("active", None)


def test_a_disabled_rule_is_not_storming(client: TestClient, db: None) -> None:
    rule = add(client, enabled=False)
    store_storm(rule)
    assert client.simulate_get(path(rule)).json["status"] == "disabled"


def test_put_replaces_the_rule_and_omitted_fields_get_their_defaults(client: TestClient) -> None:
    rule = add(client, cooldown_seconds=7, enabled=False)
    changed = {name: RULE[name] for name in ("severity", "window_seconds", "condition")} | {"name": "Renamed"}
    answer = client.simulate_put(path(rule), json=changed)
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    assert (answer.json["name"], answer.json["version"]) == ("Renamed", 2)
    assert (answer.json["cooldown_seconds"], answer.json["enabled"]) == (300, True)
    assert answer.json["created_at"] == rule["created_at"]
    assert client.simulate_get(path(rule)).json == answer.json


def test_a_rule_can_be_sent_back_as_it_was_read(client: TestClient) -> None:
    rule = add(client)
    answer = client.simulate_put(path(rule), json=rule | {"version": 99, "status": "error"})
    assert (answer.status_code, answer.json["version"], answer.json["status"]) == (200, 2, "active")


def test_patch_changes_the_given_fields_and_replaces_the_condition_as_a_whole(client: TestClient) -> None:
    rule = add(client)
    patched = client.simulate_patch(path(rule), json={"enabled": False, "severity": "info"}).json
    assert patched == rule | {
        "enabled": False,
        "severity": "info",
        "version": 2,
        "status": "disabled",
        "updated_at": patched["updated_at"],
    }
    condition = {"type": "threshold", "operator": ">=", "value": 1}
    assert "source" not in str(client.simulate_patch(path(rule), json={"condition": condition}).json["condition"])


def test_a_deleted_rule_is_not_found(client: TestClient) -> None:
    rule = add(client)
    answer = client.simulate_delete(path(rule))
    assert (answer.status_code, answer.text) == (204, "")
    assert client.simulate_get(path(rule)).status_code == 404
    assert client.simulate_delete(path(rule)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_an_unknown_rule_gets_404_and_an_invalid_id_400(client: TestClient, method: str) -> None:
    assert client.simulate_request(method, f"/api/v1/rules/{uuid4()}", json=RULE).status_code == 404
    answer = client.simulate_request(method, "/api/v1/rules/7", json=RULE)
    assert (answer.status_code, fields_named(answer)) == (400, ["rule_id"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"severity": "fatal"}, "severity"),
        ({"window_seconds": 0}, "window_seconds"),
        ({"window_seconds": "60"}, "window_seconds"),
        ({"cooldown_seconds": -1}, "cooldown_seconds"),
        ({"enabled": "yes"}, "enabled"),
        ({"colour": "red"}, "colour"),
        ({"condition": None}, "condition"),
        ({"condition": []}, "condition"),
        ({"condition": {}}, "condition.type"),
        ({"condition": {"type": "astrology"}}, "condition.type"),
        ({"condition": RULE["condition"] | {"operator": "~"}}, "condition.operator"),
        ({"condition": RULE["condition"] | {"value": "5"}}, "condition.value"),
        ({"condition": RULE["condition"] | {"colour": "red"}}, "condition.colour"),
        ({"condition": RULE["condition"] | {"group_by": ["colour"]}}, "condition.group_by.0"),
        ({"condition": RULE["condition"] | {"filters": {"payload.a": "\ud800"}}}, "condition.filters.payload.a"),
    ],
    ids=str,
)
def test_an_invalid_field_of_a_rule_is_named_by_its_path_and_nothing_is_stored(
    client: TestClient, db: None, change: dict[str, Any], field: str
) -> None:
    body = json.dumps(RULE | change)  # with `json=`, the lone surrogate would not be escaped
    answer = client.simulate_post("/api/v1/rules", body=body, content_type="application/json")
    assert (answer.status_code, fields_named(answer)) == (400, [field])
    assert Rule.select().count() == 0


def test_a_patch_is_validated_as_the_resulting_rule(client: TestClient) -> None:
    rule = add(client)
    answer = client.simulate_patch(path(rule), json={"window_seconds": -1, "name": None})
    assert (answer.status_code, sorted(fields_named(answer))) == (400, ["name", "window_seconds"])
    assert client.simulate_get(path(rule)).json == rule


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"rule"'])
def test_a_body_that_is_not_an_object_is_rejected(client: TestClient, text: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.simulate_post("/api/v1/rules", body=text, headers=headers)
    assert (answer.status_code, fields_named(answer)) == (400, ["body"])


def test_only_json_of_limited_size_is_accepted(client: TestClient) -> None:
    answer = client.simulate_post("/api/v1/rules", body="name=x", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.headers["Accept"]) == (415, "application/json")
    assert client.simulate_post("/api/v1/rules", json=RULE | {"name": "x" * 70_000}).status_code == 413


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_if_match_rejects_a_change_of_an_older_version(client: TestClient, method: str) -> None:
    rule = add(client)
    client.simulate_patch(path(rule), json={"name": "changed meanwhile"})
    answer = client.simulate_request(method, path(rule), json=RULE, headers={"If-Match": '"1"'})
    assert answer.status_code == 412
    assert client.simulate_get(path(rule)).json["name"] == "changed meanwhile"
    answer = client.simulate_request(method, path(rule), json=RULE, headers={"If-Match": '"7", "2"'})
    assert answer.status_code in (200, 204)


def test_if_match_with_an_asterisk_matches_every_version(client: TestClient) -> None:
    assert client.simulate_put(path(add(client)), json=RULE, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize(("headers", "status"), [({}, 409), ({"If-Match": '"1"'}, 412)])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_the_second_of_two_concurrent_changes_is_rejected(
    client: TestClient, db: None, method: str, headers: dict[str, str], status: int
) -> None:
    """The second request reads the rule before the first change is committed, and then waits for a lock."""
    rule = add(client)
    with ThreadPoolExecutor(1) as pool, database.atomic():
        database.execute_sql("UPDATE rulebook SET revision = revision + 1")
        second = pool.submit(client.simulate_request, method, path(rule), json=RULE, headers=headers)
        until(lambda: database.execute_sql("SELECT FROM pg_locks WHERE NOT granted").fetchone() is not None)
        assert Rule.get_by_id(UUID(rule["rule_id"])).change(name="the first")
    assert second.result(10).status_code == status
    assert client.simulate_get(path(rule)).json["name"] == "the first"


def test_a_suspended_rule_has_a_reason_and_a_change_activates_it_again(client: TestClient, db: None) -> None:
    rule = add(client)
    Rule.suspend(UUID(rule["rule_id"]), 1, "division by zero")
    shown = client.simulate_get(path(rule)).json
    assert (shown["status"], shown["status_reason"]) == ("error", "division by zero")
    changed = client.simulate_patch(path(rule), json={"name": "Repaired"}).json
    assert (changed["status"], changed["status_reason"]) == ("active", None)


@pytest.fixture
def limited(redis_url: str, redis_client: redis.Redis, empty_database: str) -> TestClient:
    """Return a client of an API that allows two active rules."""
    return TestClient(create_app(api_settings(redis_url, empty_database, max_active_rules=2)))


def test_a_rule_above_the_maximum_number_of_active_rules_is_rejected(limited: TestClient) -> None:
    first, second = add(limited), add(limited)
    answer = limited.simulate_post("/api/v1/rules", json=RULE)
    assert (answer.status_code, answer.json["title"]) == (409, "Too many active rules")
    assert answer.json["detail"].startswith("At most 2 rules can be active; disable or delete another rule first")
    disabled = add(limited, enabled=False)
    assert limited.simulate_patch(path(disabled), json={"enabled": True}).status_code == 409
    assert limited.simulate_put(path(disabled), json=RULE).status_code == 409
    assert limited.simulate_get(path(disabled)).json == disabled
    assert limited.simulate_patch(path(first), json={"name": "still active"}).status_code == 200
    assert limited.simulate_patch(path(first), json={"enabled": False}).status_code == 200
    assert limited.simulate_patch(path(disabled), json={"enabled": True}).status_code == 200
    assert limited.simulate_delete(path(second)).status_code == 204
    assert limited.simulate_post("/api/v1/rules", json=RULE).status_code == 201


def test_a_suspended_rule_is_not_active_and_its_change_needs_a_place(limited: TestClient, db: None) -> None:
    suspended, other = add(limited), add(limited)
    Rule.suspend(UUID(suspended["rule_id"]), 1, "division by zero")
    third = add(limited)
    assert limited.simulate_patch(path(suspended), json={"name": "Repaired"}).status_code == 409
    limited.simulate_delete(path(third))
    assert limited.simulate_patch(path(suspended), json={"name": "Repaired"}).json["status"] == "active"
    assert limited.simulate_get(path(other)).json["status"] == "active"


def test_active_rules_above_a_maximum_that_was_lowered_can_be_changed(
    limited: TestClient, redis_url: str, empty_database: str
) -> None:
    rule = add(limited)
    add(limited)
    lower = TestClient(create_app(api_settings(redis_url, empty_database, max_active_rules=1)))
    assert lower.simulate_patch(path(rule), json={"name": "changed"}).status_code == 200
    assert lower.simulate_post("/api/v1/rules", json=RULE).status_code == 409


def test_concurrent_requests_do_not_exceed_the_maximum_number_of_active_rules(limited: TestClient) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: limited.simulate_post("/api/v1/rules", json=RULE), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 6


def test_a_rule_has_its_state_from_the_last_survey(client: TestClient, redis_client: redis.Redis) -> None:
    rule, other = add(client), add(client)
    assert {rule[name] for name in ("state_bytes", "series", "degraded", "uncounted_events", "cost")} == {None}
    since = datetime(2026, 11, 24, 12, tzinfo=UTC)
    degraded, cost = Degradation("too large", since), Cost(2.5, 0.25)
    report.publish({rule["rule_id"]: RuleState(1_000, 7, degraded, 3, cost)}, set())
    expected = {
        "state_bytes": 1_000,
        "series": 7,
        "degraded": {"reason": "too large", "since": "2026-11-24T12:00:00Z"},
        "uncounted_events": 3,
        "cost": {"microseconds_per_event": 2.5, "share": 0.25},
    }
    assert client.simulate_get(path(rule)).json == rule | expected
    assert client.simulate_get("/api/v1/rules").json["data"] == [other, rule | expected]
    changed = client.simulate_put(path(rule), json=rule | expected).json
    assert changed == rule | expected | {"version": 2, "updated_at": changed["updated_at"]}


def test_rules_are_listed_without_their_state_if_redis_is_unavailable(client: TestClient, empty_database: str) -> None:
    rule = add(client)
    without = TestClient(create_app(api_settings("unix:///nonexistent/redis.sock", empty_database)))
    assert without.simulate_get(path(rule)).json == rule
    assert without.simulate_get("/api/v1/rules").json["data"] == [rule]


def test_every_change_is_published_immediately(client: TestClient, redis_client: redis.Redis) -> None:
    rule = add(client, name="first")
    assert published(redis_client)["first"]["version"] == 1
    client.simulate_patch(path(rule), json={"name": "second"})
    assert published(redis_client).keys() == {"second"}
    client.simulate_patch(path(rule), json={"enabled": False})
    assert published(redis_client) == {}
    client.simulate_patch(path(rule), json={"enabled": True})
    before = redis_client.get(REVISION)
    client.simulate_delete(path(rule))
    assert published(redis_client) == {}
    assert redis_client.get(REVISION) != before


def test_without_redis_a_change_is_still_stored(empty_database: str) -> None:
    client = TestClient(create_app(api_settings("redis://127.0.0.1:1", empty_database)))
    rule = add(client)
    assert client.simulate_patch(path(rule), json={"name": "Renamed"}).json["version"] == 2
    assert client.simulate_delete(path(rule)).status_code == 204


def test_without_postgresql_requests_for_rules_get_503_with_retry_after(ingest_client: TestClient) -> None:
    answer = ingest_client.simulate_get("/api/v1/rules")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "127.0.0.1" not in answer.text


def test_a_field_name_that_is_not_text_is_escaped_in_the_error(client: TestClient, db: None) -> None:
    answer = client.simulate_post("/api/v1/rules", body=b'{"\\ud800":1}', headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["field"] == "\\ud800"

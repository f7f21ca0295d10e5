"""Tests of error responses: problem details without internal information."""

from pathlib import Path

import falcon
import pytest
import redis
from falcon.testing import TestClient
from structlog.testing import capture_logs
from support.api_server import api_settings
from support.http_events import Queued, event

from api.app import create_app
from api.openapi.operation import Resource


class Broken(Resource):
    needs_database = False

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        raise RuntimeError("hunter2")


@pytest.mark.parametrize(
    ("method", "path", "status", "name", "title"),
    [
        ("GET", "/nowhere", 404, "not-found", "Not Found"),
        ("DELETE", "/api/v1/events", 405, "method-not-allowed", "Method Not Allowed"),
        ("POST", "/api/v1/events", 415, "unsupported-media-type", "Unsupported Media Type"),
    ],
)
def test_an_error_response_has_all_members_of_problem_details(
    ingest_client: TestClient, method: str, path: str, status: int, name: str, title: str
) -> None:
    response = ingest_client.simulate_request(method, path, headers={"X-Request-ID": "r-1"})

    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["X-Request-ID"] == "r-1"
    found = response.json
    assert found.pop("detail")
    found.pop("errors", None)
    assert found == {
        "type": f"/problems/{name}",
        "title": title,
        "status": status,
        "instance": path,
        "request_id": "r-1",
    }


def test_the_response_to_a_method_that_is_not_allowed_lists_the_allowed_methods(ingest_client: TestClient) -> None:
    assert "POST" in ingest_client.simulate_delete("/api/v1/events").headers["Allow"]


def test_an_unexpected_error_is_logged_and_its_details_are_not_returned(ingest_client: TestClient) -> None:
    ingest_client.app.add_route("/broken", Broken())
    with capture_logs() as logs:
        response = ingest_client.simulate_get("/broken", headers={"X-Request-ID": "r-2"})

    assert (response.status_code, response.json["type"]) == (500, "/problems/internal-server-error")
    assert "hunter2" not in response.text
    assert "RuntimeError" not in response.text
    (logged,) = (entry for entry in logs if entry["log_level"] == "error")
    assert str(logged["exc_info"]) == "hunter2"


def test_without_postgresql_queries_get_503_with_retry_after(redis_url: str, redis_client: redis.Redis) -> None:
    client = TestClient(create_app(api_settings(redis_url)))
    response = client.simulate_get("/api/v1/events")

    assert (response.status_code, response.json["detail"]) == (503, "PostgreSQL is unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert "hunter2" not in response.text


@pytest.mark.parametrize("path", ["/api/v1/events", "/api/v1/events/batch"])
def test_without_redis_no_event_is_accepted(tmp_path: Path, path: str) -> None:
    client = TestClient(create_app(api_settings(f"unix://{tmp_path}/no.sock")))
    response = client.simulate_post(path, json=event() if path.endswith("events") else [event()])

    assert (response.status_code, response.json["type"]) == (503, "/problems/service-unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert str(tmp_path) not in response.text


def test_above_the_high_water_mark_of_the_backlog_no_event_is_accepted(
    redis_url: str, redis_client: redis.Redis, queued: Queued
) -> None:
    client = TestClient(create_app(api_settings(redis_url, max_backlog=2)))
    assert client.simulate_post("/api/v1/events/batch", json=[event(), event()]).status_code == 202
    response = client.simulate_post("/api/v1/events", json=event())

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert len(queued()) == 2


def test_retry_after_differs_between_rejected_clients(tmp_path: Path) -> None:
    client = TestClient(create_app(api_settings(f"unix://{tmp_path}/no.sock")))
    waits = {client.simulate_post("/api/v1/events", json=event()).headers["Retry-After"] for _ in range(50)}

    assert len(waits) > 1

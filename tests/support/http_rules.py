"""Rules in the form in which administrators send them."""

from typing import Any

from falcon.testing import Result, TestClient

RULE: dict[str, Any] = {
    "name": "High error rate",
    "enabled": True,
    "severity": "critical",
    "window_seconds": 60,
    "cooldown_seconds": 300,
    "condition": {
        "type": "threshold",
        "metric": "count",
        "filters": {"event_type": "error", "source": "payment_service"},
        "group_by": ["source"],
        "operator": ">",
        "value": 5,
    },
}


def path(rule: dict[str, Any]) -> str:
    """Return the URL path of a rule."""
    return f"/api/v1/rules/{rule['rule_id']}"


def add(client: TestClient, **fields: Any) -> dict[str, Any]:
    """Create a rule and return the body of the response."""
    response = client.simulate_post("/api/v1/rules", json=RULE | fields)
    assert response.status_code == 201, response.text
    return response.json


def fields_named(response: Result) -> list[str]:
    """Return the field of each error in a response."""
    return [error["field"] for error in response.json["errors"]]

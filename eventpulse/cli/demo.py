"""`eventpulse demo`: ordinary events of a shop, then a burst of payment errors, and the alert for this burst."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import httpx

from eventpulse.cli.connection import api_url
from eventpulse.cli.options import exit_on_interrupt, url_option
from eventpulse.errors import OK, Unreachable, UserError
from eventpulse.visible_text import visible

RULE: dict[str, Any] = {
    "name": "Payment errors",
    "enabled": True,
    "severity": "critical",
    "window_seconds": 60,
    "cooldown_seconds": 3,  # shorter than the baseline before the burst, so that a second demo shows an alert too
    "condition": {
        "type": "threshold",
        "metric": "count",
        "filters": {"event_type": "error", "source": "payment_service"},
        "group_by": ["source"],
        "operator": ">",
        "value": 5,
    },
}
BASELINE_BATCHES = 25
BASELINE_PAUSE_SECONDS = 0.2
BURST_EVENTS = 12
ALERT_SECONDS = 20
POLL_SECONDS = 0.02
MILLISECOND = timedelta(milliseconds=1)

Event = dict[str, Any]


@click.command()
@url_option
def demo(url: str | None) -> int:
    """Send ordinary events of a shop, then a burst of payment errors, and show the alert.

    Creates the rule "Payment errors" if it does not exist.
    """
    exit_on_interrupt()
    url = api_url(url)
    try:
        with httpx.Client(base_url=f"{url}/api/v1", timeout=10, trust_env=False) as client:
            _run(client, url)
    except httpx.HTTPStatusError as error:
        raise UserError(f"the API at {url} rejected a request: {_reason(error.response)}") from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Unreachable(f"no API is available at {url} ({error}): start `eventpulse up`, or set --url") from error
    return OK


def _run(client: httpx.Client, url: str) -> None:
    rule_id = _ensure_rule(client)
    _send_baseline(client)
    known = {anomaly["anomaly_id"] for anomaly in _anomalies(client, rule_id)}
    sent_at = datetime.now(UTC)
    _post(client, [_payment_error() for _ in range(BURST_EVENTS)])
    click.echo(f"Burst     {BURST_EVENTS} payment errors in one request", err=True)
    _show(_wait_for_alert(client, rule_id, known), sent_at, url)


def _reason(response: httpx.Response) -> str:
    """Return the status of a response, with the detail of a problem document or else with the reason phrase."""
    if response.headers.get("Content-Type") == "application/problem+json":
        return f"{response.status_code} {response.json()['detail']}"
    return f"{response.status_code} {response.reason_phrase} (is this the URL of an EventPulse API?)"


def _ensure_rule(client: httpx.Client) -> str:
    """Return the id of the rule of the demo; create the rule if it does not exist."""
    offset = 0
    while page := _get(client, "/rules", limit=500, offset=offset)["data"]:
        for rule in page:
            if rule["name"] == RULE["name"]:
                click.echo(f"Rule      {rule['name']} (exists)", err=True)
                return str(rule["rule_id"])
        offset += len(page)
    rule = client.post("/rules", json=RULE).raise_for_status().json()
    click.echo(f"Rule      {rule['name']}: more than 5 errors from payment_service in 60 s (created)", err=True)
    return str(rule["rule_id"])


def _send_baseline(client: httpx.Client) -> None:
    """Send ordinary events for about five seconds."""
    sent = 0
    for batch in _baseline():
        sent += len(batch)
        _post(client, batch)
        time.sleep(BASELINE_PAUSE_SECONDS)
    click.echo(f"Baseline  {sent} ordinary events of a shop", err=True)


def _baseline() -> Iterator[list[Event]]:
    for _ in range(BASELINE_BATCHES):
        yield [random.choice(ORDINARY)() for _ in range(random.randint(4, 12))]  # noqa: S311 - not for security


def _event(event_type: str, source: str, **payload: Any) -> Event:
    now = datetime.now(UTC).isoformat()
    return {"event_type": event_type, "source": source, "timestamp": now, "payload": payload}


def _number(low: int, high: int) -> int:
    return random.randint(low, high)  # noqa: S311 - not for security


ORDINARY = (
    lambda: _event("page_view", "web", path=f"/products/{_number(1, 400)}", ms=_number(12, 180)),
    lambda: _event("search", "web", hits=_number(0, 90), ms=_number(20, 250)),
    lambda: _event("order", "shop", order_id=_number(10_000, 99_999), total_cents=_number(900, 25_000)),
    lambda: _event("payment", "payment_service", order_id=_number(10_000, 99_999), provider="card", ok=True),
    lambda: _event("shipment", "warehouse", parcels=_number(1, 4)),
    lambda: _event("error", "search_service", code="slow_shard"),
)


def _payment_error() -> Event:
    return _event("error", "payment_service", code="gateway_timeout", order_id=_number(10_000, 99_999))


def _post(client: httpx.Client, events: list[Event]) -> None:
    client.post("/events/batch", json=events).raise_for_status()


def _get(client: httpx.Client, path: str, **query: Any) -> Any:
    return client.get(path, params=query).raise_for_status().json()


def _anomalies(client: httpx.Client, rule_id: str) -> list[dict[str, Any]]:
    return list(_get(client, "/anomalies", rule_id=rule_id, limit=20)["data"])


def _wait_for_alert(client: httpx.Client, rule_id: str, known: set[str]) -> dict[str, Any]:
    deadline = time.monotonic() + ALERT_SECONDS
    while time.monotonic() < deadline:
        for anomaly in _anomalies(client, rule_id):
            if anomaly["anomaly_id"] not in known:
                return anomaly
        time.sleep(POLL_SECONDS)
    raise UserError(
        f"no alert within {ALERT_SECONDS} s: is a worker running, and is the rule {RULE['name']!r} enabled?"
    )


def _show(anomaly: dict[str, Any], sent_at: datetime, url: str) -> None:
    seen = datetime.now(UTC) - sent_at
    detected = datetime.fromisoformat(anomaly["detected_at"]) - sent_at
    click.echo(f"\n{click.style(anomaly['severity'].upper(), fg='red', bold=True)}  {visible(anomaly['message'])}")
    click.echo(f"  detected   {detected / MILLISECOND:.0f} ms after the burst was sent")
    click.echo(f"  received   {seen / MILLISECOND:.0f} ms after the burst was sent")
    click.echo(f"  details    {url}/api/v1/anomalies/{anomaly['anomaly_id']}")

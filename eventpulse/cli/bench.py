"""`eventpulse bench`: measurement of the throughput and latency of a running EventPulse."""

import time
from datetime import UTC, datetime
from typing import Any

import click
import httpx
from uuid_utils.compat import uuid7

from eventpulse.cli import load_generator, output
from eventpulse.cli.connection import api_url
from eventpulse.cli.load_generator import Outcome
from eventpulse.cli.options import Positive, exit_on_interrupt, url_option
from eventpulse.errors import OK, PARTIAL, Unreachable, UserError

STORED_SECONDS = 120.0
POLL_SECONDS = 0.01


@click.command()
@url_option
@click.option(
    "--batch", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Number of events per request."
)
@click.option("--rate", type=Positive(), help="Number of events per second. Default: as many as the API accepts.")
@click.option("--seconds", type=Positive(), default=10, show_default=True, help="Duration in seconds.")
@click.option(
    "--connections", type=click.IntRange(1, 500), default=8, show_default=True, help="Number of HTTP connections."
)
@output.format_option
def bench(url: str | None, batch: int, rate: float | None, seconds: float, connections: int, form: str) -> int:
    """Measure the throughput and latency of a running EventPulse.

    The events of the measurement are stored; their sources begin with `bench`.

    Exits with 5 if some requests were not accepted.
    """
    exit_on_interrupt()
    url = api_url(url)
    click.echo(f"Sending events in batches of {batch} to {url} for {seconds:g} s", err=True)
    started = time.perf_counter()
    try:
        outcome = load_generator.drive(
            f"{url}/api/v1", batch, seconds=seconds, rate=rate / batch if rate else None, connections=connections
        )
        stored_seconds = _seconds_until_stored(f"{url}/api/v1", started)
    except (OSError, httpx.TransportError, httpx.InvalidURL) as error:
        raise Unreachable(f"no API is available at {url} ({error}): start `eventpulse up`, or set --url") from error
    figures = _figures(outcome, batch, stored_seconds)
    output.emit([{"figure": name, "value": value} for name, value in figures.items()], form, ("figure", "value"))
    return OK if outcome.accepted == outcome.statuses.total() else PARTIAL


def _figures(outcome: Outcome, batch: int, stored_seconds: float) -> dict[str, Any]:
    events = outcome.accepted * batch
    figures: dict[str, Any] = {
        "accepted, events": events,
        "accepted, events/s": round(events / outcome.seconds),
        "stored, events/s": round(events / stored_seconds),
        "latency p50, ms": round(outcome.percentile(0.50), 2),
        "latency p95, ms": round(outcome.percentile(0.95), 2),
        "latency p99, ms": round(outcome.percentile(0.99), 2),
    }
    rejected = {status: count for status, count in sorted(outcome.statuses.items()) if status != 202 and count}
    return figures | {
        f"responses with status {status}" if status else "no response": count for status, count in rejected.items()
    }


def _seconds_until_stored(api: str, started: float) -> float:
    """Return the seconds from `started` until an additional event, which is sent last, is stored.

    Raises `UserError` if the event is not stored within `STORED_SECONDS`, or `httpx.TransportError`.
    """
    event_id = str(uuid7())
    now = datetime.now(UTC).isoformat()
    last = {"event_id": event_id, "event_type": "bench.end", "source": "bench", "timestamp": now}
    deadline = time.perf_counter() + STORED_SECONDS
    with httpx.Client(base_url=api, timeout=10, trust_env=False) as client:
        while client.post("/events", json=last).status_code != httpx.codes.ACCEPTED:  # rejected while the queue is full
            _pause(deadline)
        while client.get(f"/events/{event_id}").status_code != httpx.codes.OK:
            _pause(deadline)
    return time.perf_counter() - started


def _pause(deadline: float) -> None:
    if time.perf_counter() > deadline:
        raise UserError(f"the last event was not stored within {STORED_SECONDS:g} s: is a worker running?")
    time.sleep(POLL_SECONDS)

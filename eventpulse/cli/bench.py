"""`eventpulse bench`: how fast a running EventPulse takes events in, and how soon it has stored them."""

import time
from datetime import UTC, datetime
from typing import Any

import click
import httpx
from uuid_utils.compat import uuid7

from eventpulse.cli import load_generator, output
from eventpulse.errors import OK, PARTIAL, Unreachable, UserError

STORED_SECONDS = 120.0
POLL_SECONDS = 0.01


def run(url: str, *, batch: int, rate: float | None, seconds: float, connections: int, form: str) -> int:
    """Offer `rate` events a second (None: as many as are answered), and print what came of them.

    Returns the exit code: 5 when not every request was accepted. Raises `Unreachable` when nothing answers at `url`,
    `UserError` when what was accepted is not stored after two minutes.
    """
    api = f"{url}/api/v1"
    click.echo(f"{seconds:g} s of events in batches of {batch}, to {url}", err=True)
    started = time.perf_counter()
    try:
        found = load_generator.drive(
            api, batch, seconds=seconds, rate=rate / batch if rate else None, connections=connections
        )
        stored = _seconds_until_stored(api, started)
    except (OSError, httpx.TransportError, httpx.InvalidURL) as error:
        raise Unreachable(f"no API answers at {url} ({error}): start `eventpulse up`, or give --url") from error
    figures: dict[str, Any] = {
        "accepted, events": found.accepted * batch,
        "accepted, events/s": round(found.accepted * batch / found.seconds),
        "stored, events/s": round(found.accepted * batch / stored),
        "latency p50, ms": round(found.percentile(0.50), 2),
        "latency p95, ms": round(found.percentile(0.95), 2),
        "latency p99, ms": round(found.percentile(0.99), 2),
    }
    refused = {status: count for status, count in sorted(found.statuses.items()) if status != 202 and count}
    figures |= {f"requests answered {status or 'nothing'}": count for status, count in refused.items()}
    output.emit([{"figure": name, "value": value} for name, value in figures.items()], form, ("figure", "value"))
    return PARTIAL if refused else OK


def _seconds_until_stored(api: str, started: float) -> float:
    """Send a last event, and wait until it is stored: those before it are, or are about to be."""
    event_id = str(uuid7())
    now = datetime.now(UTC).isoformat()
    last = {"event_id": event_id, "event_type": "bench.end", "source": "bench", "timestamp": now}
    deadline = time.perf_counter() + STORED_SECONDS
    with httpx.Client(base_url=api, timeout=10, trust_env=False) as client:
        while client.post("/events", json=last).status_code != httpx.codes.ACCEPTED:  # it may be full just now
            _pause(deadline)
        while client.get(f"/events/{event_id}").status_code != httpx.codes.OK:
            _pause(deadline)
    return time.perf_counter() - started


def _pause(deadline: float) -> None:
    if time.perf_counter() > deadline:
        raise UserError(f"what was sent is not stored after {STORED_SECONDS:g} s: does a worker run?")
    time.sleep(POLL_SECONDS)

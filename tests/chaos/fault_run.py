"""Run of one fault on one system, from the first event to the audit."""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

from chaos.audit import audit
from chaos.context import Context, Fault, percentile
from chaos.recording_client import RecordingClient
from chaos.recovery_tracker import RecoveryTracker
from chaos.server_state import UNAVAILABLE
from chaos.system import System
from chaos.traffic import traffic
from support.waiting import until

WARM_UP_SECONDS = 1.0
#: Maximum wait until stock Dramatiq is idle in the short form; a complete wait may take 10 minutes or more.
STOCK_SHORT_IDLE_SECONDS = 25.0


def run_fault(fault: Fault, system: System, seed: int, *, is_short: bool) -> dict[str, Any]:
    """Send events to a ready system, inject the fault, audit the system when it is idle, and return the record."""
    size = fault.short if is_short else fault.full
    with tempfile.TemporaryDirectory(prefix="chaos-client-") as folder:
        before = system.locations()
        events = traffic(seed, size.per_second, fault.groups)
        client = RecordingClient(system.url, events, size.per_second, Path(folder) / "requests", repeat=fault.repeat)
        recoveries = RecoveryTracker(system, client)
        context = Context(system, client, recoveries, random.Random(seed), size, is_short)
        started = time.monotonic()
        client.start()
        recoveries.start()
        try:
            context.wait(WARM_UP_SECONDS)
            fault.inject(context)
            while len(client.sent) < size.events:
                context.wait(0.1)
            client.stop()
            stopped_at = time.monotonic()
            is_short_stock = is_short and system.name != "eventpulse"
            idle_within = STOCK_SHORT_IDLE_SECONDS if is_short_stock else fault.idle_within
            context.notes["became_idle"] = _becomes_idle(system, idle_within)
            idle_seconds = round(time.monotonic() - stopped_at, 1)
            for injection in recoveries.unrecovered():
                injection.recovered.wait(2)
        finally:
            client.stop()
            recoveries.stop()
        result = audit(system, client, before, context.expected_dead)
        return {
            "fault": fault.name,
            "description": fault.description,
            "system": system.name,
            "form": "short" if is_short else "full",
            "seconds": round(time.monotonic() - started, 1),
            "events": result.sent,
            "acked": result.acked,
            "rejected": result.rejected,
            "indeterminate": result.indeterminate,
            "dead": result.dead,
            "anomalies": result.anomalies,
            "deliveries": result.deliveries,
            "duplicate_deliveries": result.duplicate_deliveries,
            "slowest_alert": result.slowest_alert,
            "slowest_delivery": result.slowest_delivery,
            **result.violations,
            "samples": result.samples,
            "idle_seconds": idle_seconds,
            "recovery": recovery_summary(recoveries, fault),
            "responses": dict(client.kinds()),
            "longest_response": max(client.latencies(), default=None),
            "response_p99": percentile(client.latencies(), 0.99),
            "notes": context.notes,
        }


def recovery_summary(recoveries: RecoveryTracker, fault: Fault) -> dict[str, Any]:
    """Return the numbers of injections and of missing recoveries, and the recovery times in seconds."""
    seconds = recoveries.seconds()
    return {
        "counted_from": fault.counted_from,
        "injections": len(recoveries.injections),
        "unrecovered": len(recoveries.unrecovered()),
        "p50": percentile(seconds, 0.5),
        "p95": percentile(seconds, 0.95),
        "max": seconds[-1] if seconds else None,
        "each": [(injection.description, injection.seconds) for injection in recoveries.injections],
    }


def _becomes_idle(system: System, seconds: float) -> bool:
    """Wait until the system is idle, at most `seconds`; return whether it is idle."""

    def is_idle() -> bool:
        try:
            return system.is_idle()
        except UNAVAILABLE:
            return False

    try:
        return until(is_idle, seconds)
    except AssertionError:
        return False

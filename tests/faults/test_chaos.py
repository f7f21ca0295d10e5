"""Short chaos test with a fixed seed: faults of workers and Redis under load.

`python -m chaos` injects every fault, and more often.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from chaos.context import Context, Fault, Size
from chaos.eventpulse_system import EventPulseSystem, eventpulse_system
from chaos.fault_run import run_fault
from chaos.faults_messages import undecodable
from chaos.faults_processes import kill_workers, roll
from chaos.faults_redis import drop_replies, kill
from chaos.proxy import proxy
from chaos.soak import soak

SEED = 20261121
SOAK_MINUTES = 0.15
#: Faults and the number of injections of each. The last fault has the longest recovery.
INJECTIONS = [(kill, 1), (drop_replies, 3), (undecodable, 1), (roll, 2), (kill_workers, 1)]


def one_after_another(context: Context) -> None:
    for inject, count in INJECTIONS:
        inject(replace(context, size=Size(count, 400, context.size.per_second)))


SOAK = Fault("soak", "", soak, Size(1, 1_000, 500.0), Size(1, 1_000, 500.0))
FAULT = Fault("all", "", one_after_another, Size(1, 1_500), Size(1, 1_500), repeat=True, idle_within=60)


@pytest.fixture(scope="module")
def system() -> Iterator[EventPulseSystem]:
    with eventpulse_system(proxy_factory=proxy) as system:
        yield system


@pytest.fixture(scope="module")
def record(system: EventPulseSystem) -> dict[str, Any]:
    """Inject all faults into one system and return the record."""
    return run_fault(FAULT, system, SEED, is_short=True)


def assert_none(record: dict[str, Any], *violations: str) -> None:
    assert {name: record[name] for name in violations if record[name]} == {}, record


def test_every_accepted_event_is_stored(record: dict[str, Any]) -> None:
    assert record["acked"] >= 1_000
    assert_none(record, "lost", "unaccounted", "wrongly_dead_lettered", "unexpected")


def test_no_row_anomaly_or_recorded_delivery_is_duplicated(record: dict[str, Any]) -> None:
    assert_none(record, "duplicate_rows", "duplicate_anomalies", "unrecorded_deliveries")


def test_the_alerts_equal_those_of_undisturbed_traffic(record: dict[str, Any]) -> None:
    assert record["anomalies"] > 0
    assert_none(record, "wrong_anomalies", "missing_deliveries")


def test_the_system_recovers_within_30_seconds(record: dict[str, Any]) -> None:
    assert record["notes"]["became_idle"]
    assert_none(record, "stranded")
    assert record["recovery"]["unrecovered"] == 0
    assert record["recovery"]["max"] < 30, record


def test_every_unreadable_entry_becomes_a_dead_letter(record: dict[str, Any]) -> None:
    assert record["notes"]["added"] > 0
    assert record["notes"]["dead_letters"] == record["notes"]["added"]


def test_every_request_is_answered_within_5_seconds(record: dict[str, Any]) -> None:
    assert record["longest_response"] < 5, record


def test_leases_and_connections_do_not_grow_under_a_steady_load(system: EventPulseSystem) -> None:
    system.soak_minutes = SOAK_MINUTES
    record = run_fault(SOAK, system, SEED + 1, is_short=True)
    assert record["acked"] >= 0.5 * SOAK_MINUTES * 60 * SOAK.short.per_second
    assert_none(record, "lost", "unaccounted", "duplicate_rows", "wrong_anomalies", "missing_deliveries", "stranded")
    # Memory also grows in the first minutes of a healthy system.
    growing = [name for name in record["notes"]["growing"] if not name.startswith("rss")]
    assert growing == [], record["notes"]["thirds"]

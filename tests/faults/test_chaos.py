"""Workers, Redis and its answers fall out one after another while events come in: the promises hold all the same.

A short part of the fault battery with a fixed seed; `python -m battery` does it all, and at length.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from chaos.context import Fault, Scene, Size
from chaos.faults_messages import undecodable
from chaos.faults_processes import kill_workers, roll
from chaos.faults_redis import drop_replies, kill
from chaos.ours import Ours, ours
from chaos.proxy import proxy
from chaos.running import strike
from chaos.soak import soak

SEED = 20261121
SOAK_MINUTES = 0.15
#: In this order: what is killed last takes longest to be made good.
BLOWS = [(kill, 1), (drop_replies, 3), (undecodable, 1), (roll, 2), (kill_workers, 1)]


def one_after_another(scene: Scene) -> None:
    for act, times in BLOWS:
        act(replace(scene, size=Size(times, 400, scene.size.per_second)))


SOAK = Fault("soak", "", soak, Size(1, 1_000, 1_500.0), Size(1, 1_000, 1_500.0))
FAULT = Fault("all", "", one_after_another, Size(1, 1_500), Size(1, 1_500), repeat=True, rest_seconds=60)


@pytest.fixture(scope="module")
def plant() -> Iterator[Ours]:
    with ours(through=proxy) as plant:
        yield plant


@pytest.fixture(scope="module")
def record(plant: Ours) -> dict[str, Any]:
    """What became of the events."""
    return strike(FAULT, plant, SEED, is_short=True)


def none(record: dict[str, Any], *troubles: str) -> None:
    assert {name: record[name] for name in troubles if record[name]} == {}, record


def test_what_was_accepted_is_stored(record: dict[str, Any]) -> None:
    assert record["acked"] >= 1_000
    none(record, "lost", "unaccounted", "harmed", "unexpected")


def test_nothing_happens_twice(record: dict[str, Any]) -> None:
    none(record, "duplicate_rows", "duplicate_anomalies", "unrecorded_deliveries")


def test_the_alerts_are_those_of_undisturbed_traffic(record: dict[str, Any]) -> None:
    assert record["anomalies"] > 0
    none(record, "wrong_anomalies", "missing_deliveries")


def test_everything_comes_to_rest_soon(record: dict[str, Any]) -> None:
    assert record["notes"]["rested"]
    none(record, "stranded")
    assert record["recovery"]["unrecovered"] == 0
    assert record["recovery"]["max"] < 30, record


def test_every_unreadable_entry_is_a_dead_letter(record: dict[str, Any]) -> None:
    assert record["notes"]["put"] > 0
    assert record["notes"]["dead_letters"] == record["notes"]["put"]


def test_every_request_is_answered_soon(record: dict[str, Any]) -> None:
    assert record["longest_answer"] < 5, record


def test_neither_leases_nor_connections_grow_under_a_steady_load(plant: Ours) -> None:
    plant.soak_minutes = SOAK_MINUTES
    record = strike(SOAK, plant, SEED + 1, is_short=True)
    assert record["acked"] >= 0.5 * SOAK_MINUTES * 60 * SOAK.short.per_second
    none(record, "lost", "unaccounted", "duplicate_rows", "wrong_anomalies", "missing_deliveries", "stranded")
    growing = [name for name in record["notes"]["growing"] if not name.startswith("rss")]  # that takes minutes to tell
    assert growing == [], record["notes"]["thirds"]

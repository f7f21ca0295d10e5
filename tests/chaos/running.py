"""One fault on one plant, from the first event to the account."""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

from chaos.account import settle
from chaos.context import Fault, Scene, percentile
from chaos.ledger import Ledger
from chaos.observing import AWAY
from chaos.recovery import Recoveries
from chaos.system import Plant
from chaos.traffic import traffic
from support.waiting import until

WARM_UP_SECONDS = 1.0
#: What has not come to rest by then takes ten minutes, if it ever does.
OTHERS_SHORT_REST_SECONDS = 25.0


def strike(fault: Fault, plant: Plant, seed: int, *, is_short: bool) -> dict[str, Any]:
    """Send events to a ready plant while the fault happens; returns the record, when all has come to rest."""
    size = fault.short if is_short else fault.full
    with tempfile.TemporaryDirectory(prefix="battery-ledger-") as folder:
        before = plant.holdings()
        events = traffic(seed, size.per_second, fault.groups)
        ledger = Ledger(plant.url, events, size.per_second, Path(folder) / "ledger", repeat=fault.repeat)
        recoveries = Recoveries(plant, ledger)
        scene = Scene(plant, ledger, recoveries, random.Random(seed), size, is_short)
        started = time.monotonic()
        ledger.start()
        recoveries.start()
        try:
            scene.flow(WARM_UP_SECONDS)
            fault.act(scene)
            while len(ledger.sent) < size.events:
                scene.flow(0.1)
            ledger.stop()
            stopped_at = time.monotonic()
            others = is_short and plant.name != "ours"
            scene.notes["rested"] = _rests(plant, OTHERS_SHORT_REST_SECONDS if others else fault.rest_seconds)
            rest_seconds = round(time.monotonic() - stopped_at, 1)
            for blow in recoveries.unrecovered():
                blow.recovered.wait(2)
        finally:
            ledger.stop()
            recoveries.stop()
        account = settle(plant, ledger, before, scene.doomed)
        return {
            "fault": fault.name,
            "what": fault.what,
            "plant": plant.name,
            "form": "short" if is_short else "full",
            "seconds": round(time.monotonic() - started, 1),
            "events": account.sent,
            "acked": account.acked,
            "rejected": account.refused,
            "indeterminate": account.indeterminate,
            "dead": account.dead,
            "anomalies": account.anomalies,
            "deliveries": account.deliveries,
            "duplicate_deliveries": account.duplicate_deliveries,
            "slowest_alert": account.slowest_alert,
            "slowest_delivery": account.slowest_delivery,
            **account.troubles,
            "samples": account.samples,
            "rest_seconds": rest_seconds,
            "recovery": recovery(recoveries, fault),
            "answers": dict(ledger.kinds()),
            "longest_answer": max(ledger.latencies(), default=None),
            "answer_p99": percentile(ledger.latencies(), 0.99),
            "notes": scene.notes,
        }


def recovery(recoveries: Recoveries, fault: Fault) -> dict[str, Any]:
    seconds = recoveries.seconds()
    return {
        "counted_from": fault.counted_from,
        "blows": len(recoveries.blows),
        "unrecovered": len(recoveries.unrecovered()),
        "p50": percentile(seconds, 0.5),
        "p95": percentile(seconds, 0.95),
        "max": seconds[-1] if seconds else None,
        "each": [(blow.what, blow.seconds) for blow in recoveries.blows],
    }


def _rests(plant: Plant, seconds: float) -> bool:
    """Whether everything comes to rest in time."""

    def quiet() -> bool:
        try:
            return plant.quiet()
        except AWAY:
            return False

    try:
        return until(quiet, seconds)
    except AssertionError:
        return False

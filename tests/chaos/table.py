"""Table of the chaos tests in docs/reliability.md, made from the records of runs.

cd tests && ../.venv/bin/python -m chaos.table ../docs/reliability.json [MORE.json …]
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chaos.report import Record

HEAD = "| fault | stock Dramatiq | EventPulse | recovery p50 / p95 / max | longest response |\n|---|---|---|---|---|"
#: Text in the table for each kind of violation.
VIOLATIONS = {
    "lost": "lost",
    "unaccounted": "unaccounted for",
    "wrongly_dead_lettered": "wrongly dead-lettered",
    "unexpected": "stored although rejected",
    "duplicate_rows": "stored twice",
    "unevaluated": "never evaluated",
    "wrong_anomalies": "wrong anomalies",
    "duplicate_anomalies": "anomalies twice",
    "missing_deliveries": "alerts missing",
    "unrecorded_deliveries": "alerts twice, unrecorded",
    "stranded": "stranded",
}
#: Texts that differ for stock Dramatiq: its duplicates are evaluations, and its missing events may still be queued.
STOCK_VIOLATIONS = {"duplicate_anomalies": "evaluated twice", "lost": "not stored at the end of the measurement"}


def table(paths: Iterable[Path]) -> str:
    """Return a Markdown table of the records in these files, with the last record of each fault and system."""
    records: dict[str, dict[str, Record]] = {}
    for path in paths:
        for record in json.loads(path.read_text())["records"]:
            records.setdefault(record["fault"], {})[record["system"]] = record
    return "\n".join([HEAD, *map(row, records.values())])


def row(systems: dict[str, Record]) -> str:
    """Return the table row of one fault; `systems` contains its records by name of the system."""
    eventpulse, stock = systems.get("eventpulse"), systems.get("stock")
    description = str(next(record.get("description", record["fault"]) for record in systems.values()))
    measured = eventpulse if eventpulse and "recovery" in eventpulse else None
    cells = (description, outcome(stock), outcome(eventpulse), recovery(measured), longest_response(measured))
    return f"| {' | '.join(cells)} |"


def outcome(record: Record | None) -> str:
    """Return the cell of one record: the accepted events, the violations and the failed recoveries, or "-" for None.

    The cell of a skipped or failed run contains the reason.
    """
    if record is None:
        return "-"
    if reason := record.get("skipped") or record.get("failed"):
        return str(reason)
    texts = VIOLATIONS | ({} if record["system"] == "eventpulse" else STOCK_VIOLATIONS)
    violations = [f"{record[name]} {text}" for name, text in texts.items() if record.get(name)]
    if repeated := record["duplicate_deliveries"] - record["unrecorded_deliveries"]:
        violations.append(f"{repeated} alerts twice, recorded as such")
    text = f"of {record['acked']:,} accepted: {', '.join(violations) or '**no violation**'}"
    if never := record["recovery"]["unrecovered"]:
        text += f"; {never} of {record['recovery']['injections']} times no recovery"
    elif record["system"] != "eventpulse" and record["recovery"]["injections"]:
        text += f"; recovered in {recovery(record)}"
    if not record["notes"].get("became_idle", True):
        text += "; not idle"
    return f"{text} (short form)" if record["form"] == "short" else text


def recovery(record: Record | None) -> str:
    """Return the p50, p95 and maximum of the recovery times and the number of injections; "-" without injections."""
    times: dict[str, Any] = record["recovery"] if record else {}
    if not times.get("injections"):
        return "-"
    return " / ".join(f"{times[name]:.1f}" for name in ("p50", "p95", "max")) + f" s ({times['injections']}x)"


def longest_response(record: Record | None) -> str:
    return f"{record['longest_response']:.2f} s" if record and record["longest_response"] else "-"


if __name__ == "__main__":
    print(table(map(Path, sys.argv[1:])))

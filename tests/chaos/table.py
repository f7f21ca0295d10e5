"""The results of runs as the table of docs/reliability.md.

cd tests && ../.venv/bin/python -m battery.table ../docs/reliability.json [MORE.json …]
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chaos.report import Record

HEAD = "| fault | stock Dramatiq | EventPulse | recovery p50 / p95 / max | longest answer |\n|---|---|---|---|---|"
#: What a record may have of each trouble, as people say it.
TROUBLES = {
    "lost": "lost",
    "unaccounted": "in no place at all",
    "harmed": "dead-lettered without need",
    "unexpected": "stored though refused",
    "duplicate_rows": "stored twice",
    "unevaluated": "never evaluated",
    "wrong_anomalies": "wrong anomalies",
    "duplicate_anomalies": "anomalies twice",
    "missing_deliveries": "alerts missing",
    "unrecorded_deliveries": "alerts twice, unrecorded",
    "stranded": "stranded",
}
#: Others have no oracle, and may be at it still when their time is over.
OTHERS_TROUBLES = {"duplicate_anomalies": "evaluated twice", "lost": "not stored when the time was over"}


def main(paths: Iterable[str]) -> None:
    records: dict[str, dict[str, Record]] = {}
    for path in paths:
        for record in json.loads(Path(path).read_text())["records"]:
            records.setdefault(record["fault"], {})[record["plant"]] = record
    print(HEAD)
    for plants in records.values():
        ours, stock = plants.get("ours"), plants.get("stock")
        what = next(record.get("what", record["fault"]) for record in plants.values())
        told = ours if ours and "recovery" in ours else None
        print(f"| {what} | {outcome(stock)} | {outcome(ours)} | {recovery(told)} | {answer(told)} |")


def outcome(record: Record | None) -> str:
    """What went wrong, by what it did to how many events."""
    if record is None:
        return "-"
    if said := record.get("skipped") or record.get("failed"):
        return str(said)
    words = TROUBLES | ({} if record["plant"] == "ours" else OTHERS_TROUBLES)
    wrong = [f"{record[name]} {said}" for name, said in words.items() if record.get(name)]
    if repeated := record["duplicate_deliveries"] - record["unrecorded_deliveries"]:
        wrong.append(f"{repeated} alerts twice, recorded as such")
    found = f"of {record['acked']:,} accepted: {', '.join(wrong) or '**all well**'}"
    if never := record["recovery"]["unrecovered"]:
        found += f"; {never} of {record['recovery']['blows']} times no recovery"
    elif record["plant"] != "ours" and record["recovery"]["blows"]:
        found += f"; recovered in {recovery(record)}"
    if not record["notes"].get("rested", True):
        found += "; not at rest"
    return f"{found} (short form)" if record["form"] == "short" else found


def recovery(record: Record | None) -> str:
    found: dict[str, Any] = record["recovery"] if record else {}
    if not found.get("blows"):
        return "-"
    return " / ".join(f"{found[name]:.1f}" for name in ("p50", "p95", "max")) + f" s ({found['blows']}x)"


def answer(record: Record | None) -> str:
    return f"{record['longest_answer']:.2f} s" if record and record["longest_answer"] else "-"


if __name__ == "__main__":
    main(sys.argv[1:])

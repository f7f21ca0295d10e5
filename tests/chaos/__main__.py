"""Every fault on every plant, one after another.

    cd tests && ../.venv/bin/python -m battery [--only NAME …] [--plants ours,stock] [--seed N] [--short]
                                               [--soak-minutes M] [--json PATH] [--list]

Exits with 1 when EventPulse breaks a promise. See `battery.faults` for the table.
"""

import argparse
import random
import sys
import time
import traceback
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from chaos.context import Fault, Skipped
from chaos.faults import FAULTS
from chaos.ours import ours
from chaos.report import Record, broken, line, save
from chaos.running import strike
from chaos.small_disk import small_disk

DISK_MEBIBYTES = 256
SHORT_SOAK_MINUTES = 0.5


def main() -> int:
    arguments = parse()
    chosen = [fault for fault in FAULTS if wanted(fault.name, arguments.only)]
    if arguments.list:
        for fault in chosen:
            say(f"{fault.name:24} {'+'.join(fault.plants):10} {fault.what}")
        return 0
    say(f"seed {arguments.seed}")
    records: list[Record] = []
    kept = True
    for fault in chosen:
        for name in [each for each in arguments.plants.split(",") if each in fault.plants]:
            record = run(fault, name, arguments)
            records.append(record)
            say(line(record))
            if name == "ours" and (wrong := broken(fault, record)):
                kept = False
                record["broken"] = wrong
                say(f"    BROKEN: {'; '.join(wrong)} {record.get('samples', '')}")
            save(arguments.json, arguments.seed, records)
    say(f"saved to {arguments.json}")
    return 0 if kept else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m battery", description="Faults, and what they cost.")
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="NAME", help="faults by name; * stands for anything"
    )
    parser.add_argument("--plants", default="ours,stock")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--short", action="store_true", help="few blows, few events")
    parser.add_argument("--soak-minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path, default=Path(f"battery-{time.strftime('%Y%m%d-%H%M%S')}.json"))
    parser.add_argument("--list", action="store_true", help="show the faults, and do nothing")
    return parser.parse_args()


def run(fault: Fault, name: str, arguments: argparse.Namespace) -> Record:
    """One record, whatever happens."""
    try:
        with ExitStack() as undo:
            options = dict(fault.options)
            disk = undo.enter_context(small_disk(DISK_MEBIBYTES)) if fault.disk else None
            if fault.disk:
                if disk is None:
                    raise Skipped("no small disk can be mounted here")
                options["start_postgres"] = getattr(disk, f"start_postgres_with_its_{fault.disk}_here")
            plant = undo.enter_context(maker(fault, name)(**options))
            plant.disk, plant.soak_minutes = disk, SHORT_SOAK_MINUTES if arguments.short else arguments.soak_minutes
            return strike(fault, plant, arguments.seed, is_short=arguments.short)
    except Skipped as skipped:
        return {"fault": fault.name, "plant": name, "skipped": str(skipped)}
    except Exception as error:
        traceback.print_exc()
        return {"fault": fault.name, "plant": name, "failed": f"{type(error).__name__}: {error}"}


def maker(fault: Fault, name: str) -> Any:
    """What starts a plant of this name for a fault."""
    if name == "ours":
        return fault.makes or ours
    from chaos.stock import stock  # it may not be installed here

    return stock


def wanted(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

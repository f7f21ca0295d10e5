"""Command line of the chaos tests: runs the chosen faults on the chosen systems, one after another.

    cd tests && ../.venv/bin/python -m chaos [--only NAME …] [--systems eventpulse,stock] [--seed N] [--short]
                                               [--soak-minutes M] [--json PATH] [--list]

The exit code is 1 if EventPulse breaks a promise. `chaos.faults` contains the table of the faults.
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
from chaos.eventpulse_system import eventpulse_system
from chaos.fault_run import run_fault
from chaos.faults import FAULTS
from chaos.report import Record, broken_promises, save, summary_line
from chaos.small_disk import small_disk

DISK_MEBIBYTES = 256
SHORT_SOAK_MINUTES = 0.5


def main() -> int:
    """Run the chosen faults, save their records as JSON, and return the exit code of the process."""
    arguments = parse()
    chosen = [fault for fault in FAULTS if is_chosen(fault.name, arguments.only)]
    if arguments.list:
        for fault in chosen:
            print_now(f"{fault.name:24} {'+'.join(fault.systems):10} {fault.description}")
        return 0
    print_now(f"seed {arguments.seed}")
    records: list[Record] = []
    is_promise_kept = True
    for fault in chosen:
        for name in [each for each in arguments.systems.split(",") if each in fault.systems]:
            record = run(fault, name, arguments)
            records.append(record)
            print_now(summary_line(record))
            if name == "eventpulse" and (problems := broken_promises(fault, record)):
                is_promise_kept = False
                record["broken"] = problems
                print_now(f"    BROKEN: {'; '.join(problems)} {record.get('samples', '')}")
            save(arguments.json, arguments.seed, records)
    print_now(f"saved to {arguments.json}")
    return 0 if is_promise_kept else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m chaos",
        description="Inject faults into running systems and audit their events, anomalies and deliveries.",
    )
    parser.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="fault names; * matches any text")
    parser.add_argument("--systems", default="eventpulse,stock", help="systems under test, separated by commas")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10**6), help="seed of the events and of the injection times"
    )
    parser.add_argument("--short", action="store_true", help="fewer injections and events")
    parser.add_argument("--soak-minutes", type=float, default=10.0, help="duration of the soak test in minutes")
    parser.add_argument("--json", type=Path, default=Path(f"chaos-{time.strftime('%Y%m%d-%H%M%S')}.json"))
    parser.add_argument("--list", action="store_true", help="list the faults and exit")
    return parser.parse_args()


def run(fault: Fault, name: str, arguments: argparse.Namespace) -> Record:
    """Run one fault on one system and return the record. If an exception is raised, the record contains its text."""
    try:
        with ExitStack() as undo:
            options = dict(fault.options)
            disk = undo.enter_context(small_disk(DISK_MEBIBYTES)) if fault.disk else None
            if fault.disk:
                if disk is None:
                    raise Skipped("mounting a small disk requires root on Linux")
                options["start_postgres"] = getattr(disk, f"start_postgres_with_{fault.disk}")
            system = undo.enter_context(system_factory(fault, name)(**options))
            system.disk, system.soak_minutes = disk, SHORT_SOAK_MINUTES if arguments.short else arguments.soak_minutes
            return run_fault(fault, system, arguments.seed, is_short=arguments.short)
    except Skipped as skipped:
        return {"fault": fault.name, "system": name, "skipped": str(skipped)}
    except Exception as error:
        traceback.print_exc()
        return {"fault": fault.name, "system": name, "failed": f"{type(error).__name__}: {error}"}


def system_factory(fault: Fault, name: str) -> Any:
    """Return the context manager function that starts the system `name` for a fault."""
    if name == "eventpulse":
        return fault.system_factory or eventpulse_system
    from chaos.stock_system import stock_system

    return stock_system


def is_chosen(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def print_now(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

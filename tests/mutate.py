"""Mutation check: each guard is disabled in turn, and one of its tests must fail.

    .venv/bin/python tests/mutate.py [--only TEXT …] [--jobs N]

`mutants.toml` contains the guards. Each change is applied alone to a copy of the code: the tests of its guard must pass
without the change and fail with the change. The exit code is 1 if a mutant survives.
"""

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGES = ("eventpulse", "api", "actors", "models", "rules", "notifiers", "schedules", "docs", "tests")
FILES = ("setup.cfg", "pyproject.toml", "docker-compose.yml", "README.md", "Makefile", "Dockerfile", ".env.example")
TIMEOUT_SECONDS = 150


class Mutant(NamedTuple):
    """Entry of `mutants.toml`: a guard, the change that disables the guard, and the tests of the guard."""

    guard: str
    path: str
    old: str
    new: str
    tests: str


class Copies:
    """Copies of the code, one for each job that runs at the same time."""

    def __init__(self, folder: Path, count: int) -> None:
        self._free: queue.Queue[Path] = queue.Queue()
        for number in range(count):
            self._free.put(_copy(folder / str(number)))

    @contextmanager
    def take(self) -> Iterator[Path]:
        copy = self._free.get()
        try:
            yield copy
        finally:
            self._free.put(copy)


def _copy(folder: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, folder / file)
    return folder


def check_text(mutant: Mutant) -> None:
    """Raise `SystemExit` if the text of the guard does not occur exactly once in its file."""
    count = (ROOT / mutant.path).read_text().count(mutant.old)
    if count != 1:
        raise SystemExit(f"{mutant.guard}: found {count} times in {mutant.path}: {mutant.old!r}")


def passes(tests: str, folder: Path) -> bool:
    """Return whether the tests pass in the copy in `folder`; a timeout is a failure."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests.split()]
    environ = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(TIMEOUT_SECONDS) == 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # on SIGINT, pytest stops the servers of its fixtures
        process.wait()
        return False


def survives(mutant: Mutant, copies: Copies) -> bool:
    """Return whether the tests pass although the guard is disabled."""
    started = time.monotonic()
    with copies.take() as folder:
        path = folder / mutant.path
        original = path.read_text()
        path.write_text(original.replace(mutant.old, mutant.new))
        try:
            survived = passes(mutant.tests, folder)
        finally:
            path.write_text(original)
    result = "SURVIVES" if survived else "killed"
    print(f"{result:8}  {time.monotonic() - started:5.1f} s  {mutant.guard}", flush=True)
    return survived


def check_tests(tests: str, copies: Copies) -> None:
    """Raise `SystemExit` if the tests fail although no guard is disabled."""
    with copies.take() as folder:
        if not passes(tests, folder):
            raise SystemExit(f"these tests fail although no guard is disabled: {tests}")


def load() -> list[Mutant]:
    """Return all mutants of `mutants.toml`. Raises `SystemExit` if a mutant does not match the code."""
    listed = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["mutant"]
    mutants = [Mutant(**fields) for fields in listed]
    for mutant in mutants:
        check_text(mutant)
    return mutants


def main(arguments: Sequence[str]) -> int:
    """Test the chosen mutants, print the results, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help="only guards with one of these texts in their name or path"
    )
    parser.add_argument("--jobs", type=int, default=2, help="number of mutants that are tested in parallel")
    options = parser.parse_args(arguments)
    chosen = [
        mutant
        for mutant in load()
        if not options.only or any(text in f"{mutant.guard} {mutant.path}" for text in options.only)
    ]
    if not chosen:
        parser.error("no guard matches")
    with tempfile.TemporaryDirectory(prefix="eventpulse-mutants-") as name, ThreadPoolExecutor(options.jobs) as jobs:
        copies = Copies(Path(name), options.jobs)
        list(jobs.map(lambda tests: check_tests(tests, copies), sorted({mutant.tests for mutant in chosen})))
        survivors = sum(jobs.map(lambda mutant: survives(mutant, copies), chosen))
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants are killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

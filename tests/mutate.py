"""Take each guard out in turn, and see that a test notices: `make mutants`.

Each is applied alone to a copy of the code; its tests must pass without it and fail with it.

    .venv/bin/python tests/mutate.py [PART OF A NAME …]
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGES = ("eventpulse", "api", "actors", "models", "rules", "notifiers", "schedules", "tests")
FILES = ("setup.cfg", "pyproject.toml", "docker-compose.yml", "README.md", "Makefile", "Dockerfile", ".env.example")
LONGEST_SECONDS = 150


class Mutant(NamedTuple):
    """A guard, and how to take it out: see `mutants.toml`."""

    guard: str
    path: str
    old: str
    new: str
    tests: str


def look_up(mutant: Mutant) -> None:
    """Raise `SystemExit` when its text is not there, or not once."""
    found = (ROOT / mutant.path).read_text().count(mutant.old)
    if found != 1:
        raise SystemExit(f"{mutant.guard}: found {found} times in {mutant.path}: {mutant.old!r}")


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether its tests pass all the same."""
    path = folder / mutant.path
    sound = path.read_text()
    path.write_text(sound.replace(mutant.old, mutant.new))
    try:
        return passes(mutant.tests, folder)
    finally:
        path.write_text(sound)


def passes(tests: str, folder: Path) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests.split()]
    environ = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(LONGEST_SECONDS) == 0
    except subprocess.TimeoutExpired:  # to hang is to fail
        process.send_signal(2)
        process.wait()
        return False


def main(wanted: list[str]) -> int:
    listed = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text())["mutant"]
    mutants = [Mutant(**fields) for fields in listed]
    chosen = [mutant for mutant in mutants if not wanted or any(word in mutant.guard for word in wanted)]
    for mutant in mutants:
        look_up(mutant)
    with tempfile.TemporaryDirectory(prefix="eventpulse-mutants-") as name:
        folder = Path(name)
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for file in FILES:
            shutil.copy(ROOT / file, folder / file)
        for tests in sorted({mutant.tests for mutant in chosen}):
            if not passes(tests, folder):
                raise SystemExit(f"these fail with every guard in place: {tests}")
        survivors = []
        for mutant in chosen:
            started = time.monotonic()
            survived = survives(mutant, folder)
            survivors += [mutant] if survived else []
            print(
                f"{'SURVIVES' if survived else 'noticed'}  {time.monotonic() - started:5.1f} s  {mutant.guard}",
                flush=True,
            )
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} guards are missed when they are taken out")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

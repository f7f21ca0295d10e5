"""Plots for docs/performance.md, drawn from a saved report.

.venv/bin/python benchmarks/plots.py docs/performance.json docs/plots
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

#: Labels of the x axes that have a logarithmic scale.
LOGARITHMIC = {"events a request", "rules", "rows stored"}


def draw(series: dict[str, Any], date: str, path: Path) -> None:
    """Draw one series as an SVG file."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for label, points in series["points"].items():
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    if series["x"] in LOGARITHMIC:
        axes.set_xscale("symlog")
        axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_title(series["name"], loc="left", fontsize=11)
    axes.set_xlabel(series["x"])
    axes.set_ylabel(series["y"])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.text(0.995, 0.005, date[:10], ha="right", fontsize=7, color="grey")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw_all(saved: Path, folder: Path) -> list[Path]:
    """Draw every series of a saved report as an SVG file; return the paths."""
    matplotlib.rcParams["svg.hashsalt"] = "eventpulse"  # fixed ids, so that equal figures give equal files
    matplotlib.rcParams["svg.fonttype"] = "none"  # keep text as text, not as paths
    run = json.loads(saved.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for series in run["series"]:
        path = folder / f"{re.sub('[^a-z0-9]+', '-', series['name'].lower()).strip('-')}.svg"
        draw(series, run["date"], path)
        drawn.append(path)
    return drawn


if __name__ == "__main__":
    for path in draw_all(Path(sys.argv[1]), Path(sys.argv[2])):
        print(path)

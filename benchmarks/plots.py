"""The plots of docs/performance.md, drawn from what a run saved.

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

#: How to read each: is an axis logarithmic, and from where does y begin?
LOGARITHMIC = {"events a request", "rules", "rows stored"}


def draw(series: dict[str, Any], date: str, path: Path) -> None:
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
    """Draw every series of a saved run, as SVG; returns the files."""
    matplotlib.rcParams["svg.hashsalt"] = "eventpulse"  # the same figures, the same file
    found = json.loads(saved.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for series in found["series"]:
        path = folder / f"{re.sub('[^a-z0-9]+', '-', series['name'].lower()).strip('-')}.svg"
        draw(series, found["date"], path)
        drawn.append(path)
    return drawn


if __name__ == "__main__":
    for path in draw_all(Path(sys.argv[1]), Path(sys.argv[2])):
        print(path)

"""Tests that the documentation quotes the saved measurements."""

import json
import re
from pathlib import Path
from statistics import median

import pytest
from chaos.table import table

DOCS = Path(__file__).parents[2] / "docs"
#: Pattern of a median with its minimum and maximum, for example "3.17 ms (2.43 to 3.36)".
FIGURE = re.compile(r"([\d.,]+)(?: ms)? \(([\d.,]+) to ([\d.,]+)\)")


def formatted(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def test_every_figure_with_a_spread_is_in_the_saved_benchmarks() -> None:
    lines = json.loads((DOCS / "performance.json").read_text())["lines"]
    saved = {tuple(formatted(f(line["values"])) for f in (median, min, max)) for line in lines}
    quoted = FIGURE.findall((DOCS / "performance.md").read_text())
    assert len(quoted) > 40
    assert [figure for figure in quoted if figure not in saved] == []


def test_the_table_of_faults_is_made_from_the_saved_records() -> None:
    assert table([DOCS / "reliability.json"]) in (DOCS / "reliability.md").read_text()


@pytest.mark.parametrize(("name", "records"), [("performance", "lines"), ("reliability", "records")])
def test_saved_measurements_have_one_line_for_each_record(name: str, records: str) -> None:
    text = (DOCS / f"{name}.json").read_text()
    lines = [json.loads(line.rstrip(",")) for line in text.splitlines() if line.startswith("  {")]
    assert [record for record in json.loads(text)[records] if record not in lines] == []

"""Data on stdout in the form that was asked for, and the question before anything is destroyed."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from eventpulse.errors import Declined

SAMPLE = 5
FORMATS = click.Choice(["table", "json", "ndjson"])

Row = Mapping[str, Any]


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-o`, for every command that prints data."""
    option = click.option("-o", "--output", "form", type=FORMATS, default="table", show_default=True, help="The form.")
    return option(command)


def emit(rows: Sequence[Row], form: str, columns: Sequence[str]) -> None:
    """Print the rows: the columns as a table, or whole as one JSON array or as one object a line."""
    if form == "json":
        click.echo(json.dumps([dict(row) for row in rows], indent=2, default=str))
    elif form == "ndjson":
        for row in rows:
            click.echo(json.dumps(dict(row), default=str))
    elif sys.stdout.isatty():
        _rich_table(rows, columns)
    else:
        click.echo("\t".join(columns))
        for row in rows:
            click.echo("\t".join(_cell(row[column]) for column in columns))


def confirm(deed: str, sample: Sequence[str], total: int, *, yes: bool, dry_run: bool) -> bool:
    """Show what is about to happen, and ask; returns whether to go on. `deed` reads like "delete 3 dead letters".

    A dry run shows and does not go on. Raises `Declined` when the answer is no, or nobody is there to answer.
    """
    click.echo(f"About to {deed}{':' if sample else '.'}", err=True)
    for line in sample[:SAMPLE]:
        click.echo(f"  {line}", err=True)
    if total > SAMPLE:
        click.echo(f"  … and {total - SAMPLE} more", err=True)
    if dry_run:
        click.echo("Dry run: nothing was changed.", err=True)
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Declined("nothing was changed: without a terminal to ask on, this needs --yes")
    if not click.confirm("Go on?", err=True):
        raise Declined("nothing was changed")
    return True


def _rich_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    from rich.console import Console  # only a terminal pays for it
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())

"""Output of data on stdout as a table or as JSON, and the confirmation of changes."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from eventpulse.errors import Declined
from eventpulse.visible_text import visible

SAMPLE_SIZE = 5
FORMATS = click.Choice(["table", "json", "ndjson"])

Row = Mapping[str, Any]


def format_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `-o`, the option of every command that prints data."""
    option = click.option(
        "-o", "--output", "form", type=FORMATS, default="table", show_default=True, help="Output format."
    )
    return option(command)


def emit(rows: Sequence[Row], form: str, columns: Sequence[str]) -> None:
    """Print rows: `columns` as a table, or all fields as a JSON array (json) or one JSON object per line (ndjson).

    If stdout is not a terminal, the columns of the table are separated by tabs.
    """
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


def confirm(action: str, sample: Sequence[str], total: int, *, yes: bool, dry_run: bool) -> bool:
    """Show `action`, such as "delete 3 items", and ask for confirmation unless `yes`; return whether to continue.

    A dry run only shows the action and returns False. Raises `Declined` if the user declines, or cannot be asked
    because stdin is not a terminal.
    """
    click.echo(f"About to {action}{':' if sample else '.'}", err=True)
    for line in sample[:SAMPLE_SIZE]:
        click.echo(f"  {visible(line)}", err=True)
    if total > SAMPLE_SIZE:
        click.echo(f"  … and {total - SAMPLE_SIZE} more", err=True)
    if dry_run:
        click.echo("Dry run: nothing was changed.", err=True)
        return False
    if yes:
        return True
    if not sys.stdin.isatty():
        raise Declined("nothing was changed: --yes is required without a terminal")
    if not click.confirm("Continue?", err=True):
        raise Declined("nothing was changed")
    return True


def plural(count: int, noun: str) -> str:
    """Return the count with the noun in singular or plural: "1 letter", "2 letters"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _rich_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    from rich.console import Console  # slow to import, and only needed on a terminal
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    return "" if value is None else visible(" ".join(str(value).split()))

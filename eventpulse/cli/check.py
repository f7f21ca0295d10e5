"""`eventpulse check`: list of the settings."""

from dataclasses import asdict

import click

from eventpulse.cli import output
from eventpulse.errors import OK
from eventpulse.settings import describe


@click.command()
@output.format_option
def check(form: str) -> int:
    """Show every setting with its value and the source of the value. Secrets are masked."""
    output.emit([asdict(setting) for setting in describe()], form, ("variable", "value", "source", "meaning"))
    return OK

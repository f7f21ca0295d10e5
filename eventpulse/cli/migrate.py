"""`eventpulse migrate`: commands for the database schema."""

import click

from actors import builtin_channels
from eventpulse.cli import output
from eventpulse.cli.connection import database_settings
from eventpulse.cli.options import dry_run_option, yes_option
from eventpulse.errors import FINDINGS, OK, NotFound
from eventpulse.settings import Settings
from models import database, migrations

COLUMNS = ("name", "state")


@click.command()
@click.argument("direction", type=click.Choice(["up", "down", "status"]), default="up")
@click.argument("target", required=False)
@output.format_option
@yes_option
@dry_run_option
def migrate(direction: str, target: str | None, form: str, yes: bool, dry_run: bool) -> int:
    """Update the schema (up), revert it (down), or show its state (status).

    `down` reverts the newest migration, or all migrations back to and including TARGET. `status` exits with 3 if
    migrations are pending.
    """
    if target is not None and direction != "down":
        raise click.UsageError("only `migrate down` accepts TARGET")
    settings, database_url = database_settings()
    database.configure(database_url, name="eventpulse migrate")
    history = migrations.status()
    applied = [each.name for each in history if each.applied]
    pending = [each.name for each in history if not each.applied]
    if direction == "status":
        states = [{"name": each.name, "state": "applied" if each.applied else "pending"} for each in history]
        output.emit(states, form, COLUMNS)
        return FINDINGS if pending else OK
    if direction == "up":
        changed = _up(settings, pending, dry_run=dry_run)
    else:
        changed = _down(applied, target, yes=yes, dry_run=dry_run)
    state = "applied" if direction == "up" else "reverted"
    output.emit([{"name": name, "state": state} for name in changed], form, COLUMNS)
    return OK


def _up(settings: Settings, pending: list[str], *, dry_run: bool) -> list[str]:
    if not pending:
        click.echo("The schema is up to date.", err=True)
    if dry_run:
        click.echo(f"Dry run: would apply {', '.join(pending) or 'nothing'}.", err=True)
        return []
    applied = migrations.up()
    builtin_channels.ensure_builtin(settings)
    return applied


def _down(applied: list[str], target: str | None, *, yes: bool, dry_run: bool) -> list[str]:
    if target is not None and target not in applied:
        raise NotFound(f"applied migration not found: {target}")
    to_revert = applied[-1:] if target is None else applied[applied.index(target) :]
    if not to_revert:
        click.echo("No migrations to revert.", err=True)
        return []
    action = f"revert {output.plural(len(to_revert), 'migration')}, and delete the data in their tables and columns"
    if not output.confirm(action, to_revert, len(to_revert), yes=yes, dry_run=dry_run):
        return []
    return migrations.down(target)

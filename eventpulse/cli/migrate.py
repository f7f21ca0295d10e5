"""`eventpulse migrate`: the schema forward, back, or where it is."""

import click

from actors import builtin_channels
from eventpulse.cli import output
from eventpulse.errors import FINDINGS, OK, NotFound
from eventpulse.settings import Settings
from models import database, migrations

COLUMNS = ("name", "state")


def run(
    settings: Settings, database_url: str, direction: str, target: str | None, *, form: str, yes: bool, dry_run: bool
) -> int:
    """Do it and print each migration concerned; returns the exit code. `status` finds when something is pending."""
    if target is not None and direction != "down":
        raise click.UsageError("only `migrate down` takes a target")
    database.configure(database_url, name="eventpulse migrate")
    history = migrations.status()
    pending = [migration.name for migration in history if not migration.applied]
    if direction == "status":
        states = [{"name": each.name, "state": "applied" if each.applied else "pending"} for each in history]
        output.emit(states, form, COLUMNS)
        return FINDINGS if pending else OK
    if direction == "up":
        done = _up(settings, pending, dry_run=dry_run)
    else:
        done = _down([each.name for each in history if each.applied], target, yes=yes, dry_run=dry_run)
    output.emit(
        [{"name": name, "state": "applied" if direction == "up" else "reverted"} for name in done], form, COLUMNS
    )
    return OK


def _up(settings: Settings, pending: list[str], *, dry_run: bool) -> list[str]:
    if not pending:
        click.echo("The schema is up to date.", err=True)
    if dry_run:
        click.echo(f"Dry run: would apply {', '.join(pending) or 'nothing'}.", err=True)
        return []
    done = migrations.up()
    builtin_channels.ensure_builtin(settings)
    return done


def _down(applied: list[str], target: str | None, *, yes: bool, dry_run: bool) -> list[str]:
    if target is not None and target not in applied:
        raise NotFound(f"there is no applied migration {target}")
    doomed = applied[-1:] if target is None else applied[applied.index(target) :]
    if not doomed:
        click.echo("Nothing has been applied.", err=True)
        return []
    deed = f"take back {len(doomed)} migrations, with the data that they hold"
    if not output.confirm(deed, doomed, len(doomed), yes=yes, dry_run=dry_run):
        return []
    return migrations.down(target)

"""`eventpulse dlq`: what exhausted its retries, for an operator to read, run again or delete."""

import json
from collections.abc import Sequence
from typing import Any

import click

from eventpulse.cli import output
from eventpulse.cli.connection import connected_settings
from eventpulse.errors import OK, PARTIAL, NotFound

COLUMNS = ("dead_letter_id", "dead_lettered_at", "queue", "event_id", "attempts", "error")

ids = click.argument("ids", nargs=-1, metavar="[ID]...")
everything = click.option("--all", "everything", is_flag=True, help="Every dead letter.")
yes = click.option("--yes", is_flag=True, help="Do not ask.")
dry_run = click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing.")


@click.group()
def dlq() -> None:
    """Dead letters: messages that exhausted their retries, with why."""


@dlq.command("list")
@click.option("--queue", help="Only those of this queue: persist, evaluate or notify.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Most to show.")
@output.format_option
def list_(queue: str | None, limit: int, form: str) -> None:
    """The newest dead letters first."""
    dead_letters = _dead_letters()
    output.emit([_row(letter) for letter in dead_letters.list_(limit, queue)], form, COLUMNS)
    total = dead_letters.count(queue)
    if total > limit:
        click.echo(f"{limit} of {total} dead letters; --limit shows more.", err=True)
    elif total == 0:
        click.echo("No dead letters.", err=True)


@dlq.command()
@click.argument("dead_letter_id", metavar="ID")
@click.option("-o", "--output", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def show(dead_letter_id: str, form: str) -> None:
    """One dead letter: its message as it was, and the traceback of its last attempt."""
    letter = _dead_letters().get(dead_letter_id)
    if letter is None:
        raise NotFound(f"there is no dead letter {dead_letter_id}")
    row = {**_row(letter), "request_id": letter.request_id, "message": _readable(bytes(letter.message))}
    if form == "json":
        click.echo(json.dumps({**row, "traceback": letter.traceback}, indent=2, default=str))
        return
    message = row.pop("message")
    for name, value in row.items():
        click.echo(f"{name:<16}{'' if value is None else value}")
    click.echo(f"\nmessage\n{message if isinstance(message, str) else json.dumps(message, indent=2)}")
    click.echo(f"\ntraceback\n{letter.traceback or '(none was recorded)'}")


@dlq.command()
@ids
@everything
@yes
@dry_run
def retry(ids: tuple[str, ...], everything: bool, yes: bool, dry_run: bool) -> int:
    """Queue dead letters again, as new as on their first day."""
    dead_letters = _dead_letters()
    letters, code = _chosen(dead_letters, ids, everything)
    if _agreed("queue again", letters, yes=yes, dry_run=dry_run):
        replay = dead_letters.replay([letter.dead_letter_id for letter in letters])
        for error in replay.errors:
            click.echo(error, err=True)
        click.echo(f"{replay.queued} queued again, {len(replay.errors)} not.", err=True)
        code = PARTIAL if replay.errors else code
    return code


@dlq.command()
@ids
@everything
@yes
@dry_run
def purge(ids: tuple[str, ...], everything: bool, yes: bool, dry_run: bool) -> int:
    """Delete dead letters for good."""
    dead_letters = _dead_letters()
    letters, code = _chosen(dead_letters, ids, everything)
    if _agreed("delete", letters, yes=yes, dry_run=dry_run):
        click.echo(f"{dead_letters.purge([letter.dead_letter_id for letter in letters])} deleted.", err=True)
    return code


def _dead_letters() -> Any:
    settings = connected_settings()
    from actors import runtime  # slow to import, and not needed for --help
    from actors.recovery import dead_letters

    runtime.connect(settings, "dlq")
    dead_letters.reconcile()  # those of the last seconds, too, and all of them when no scheduler runs
    return dead_letters


def _chosen(dead_letters: Any, ids: Sequence[str], everything: bool) -> tuple[list[Any], int]:
    """The letters that are meant, and the exit code: some of the ids may name none."""
    if everything == bool(ids):
        raise click.UsageError("name the dead letters, or say --all")
    if everything:
        return dead_letters.list_(dead_letters.count()), OK
    found = [letter for letter in map(dead_letters.get, dict.fromkeys(ids)) if letter is not None]
    missing = sorted(set(ids) - {letter.dead_letter_id for letter in found})
    if not found:
        raise NotFound(f"there is no dead letter {', '.join(missing)}")
    if missing:
        click.echo(f"There is no dead letter {', '.join(missing)}.", err=True)
    return found, PARTIAL if missing else OK


def _agreed(deed: str, letters: Sequence[Any], *, yes: bool, dry_run: bool) -> bool:
    if not letters:
        click.echo("No dead letters.", err=True)
        return False
    sample = [f"{letter.dead_letter_id}  {letter.queue_name}  {letter.error}" for letter in letters]
    plural = "dead letter" if len(letters) == 1 else "dead letters"
    return output.confirm(f"{deed} {len(letters)} {plural}", sample, len(letters), yes=yes, dry_run=dry_run)


def _row(letter: Any) -> dict[str, Any]:
    return {
        "dead_letter_id": letter.dead_letter_id,
        "dead_lettered_at": letter.dead_lettered_at.isoformat(timespec="seconds"),
        "queue": letter.queue_name,
        "event_id": None if letter.event_id is None else str(letter.event_id),
        "attempts": letter.attempts,
        "error": letter.error,
    }


def _readable(message: bytes) -> Any:
    """The message as JSON; what is not JSON as text, with its odd bytes escaped."""
    try:
        return json.loads(message)
    except ValueError:
        return message.decode(errors="backslashreplace")

"""`eventpulse dlq`: commands for dead letters, the messages that failed permanently."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from actors import runtime
from actors.recovery import dead_letters
from eventpulse.cli import output
from eventpulse.cli.connection import connected_settings
from eventpulse.cli.options import dry_run_option, yes_option
from eventpulse.errors import OK, PARTIAL, NotFound
from eventpulse.visible_text import visible
from models.dead_letter import DeadLetter

COLUMNS = ("dead_letter_id", "dead_lettered_at", "queue", "event_id", "attempts", "error")

ids_argument = click.argument("ids", nargs=-1, metavar="[ID]...")
all_option = click.option("--all", "everything", is_flag=True, help="Select all dead letters.")


@click.group()
def dlq() -> None:
    """List, show, requeue and delete dead letters: messages that failed permanently."""


@dlq.command("list")
@click.option("--queue", help="Show only dead letters of this queue: persist, evaluate or notify.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Maximum number of dead letters to show."
)
@output.format_option
def list_(queue: str | None, limit: int, form: str) -> None:
    """List dead letters, newest first."""
    _connect()
    output.emit([_row(letter) for letter in dead_letters.list_(limit, queue)], form, COLUMNS)
    total = dead_letters.count(queue)
    if total > limit:
        click.echo(f"Showing {limit} of {total} dead letters; use --limit to show more.", err=True)
    elif total == 0:
        click.echo("No dead letters.", err=True)


@dlq.command()
@click.argument("dead_letter_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format.",
)
def show(dead_letter_id: str, form: str) -> None:
    """Show one dead letter with its message and its traceback."""
    _connect()
    letter = dead_letters.get(dead_letter_id)
    if letter is None:
        raise NotFound(f"dead letter not found: {dead_letter_id}")
    row = {**_row(letter), "request_id": letter.request_id, "message": _readable(bytes(letter.message))}
    if form == "json":
        click.echo(json.dumps({**row, "traceback": letter.traceback}, indent=2, default=str))
        return
    message = row.pop("message")
    for name, value in row.items():
        click.echo(f"{name:<16}  {'' if value is None else visible(str(value))}")
    click.echo(f"\nmessage\n{_visible_lines(message) if isinstance(message, str) else json.dumps(message, indent=2)}")
    click.echo(f"\ntraceback\n{_visible_lines(letter.traceback or 'none recorded')}")


@dlq.command()
@ids_argument
@all_option
@yes_option
@dry_run_option
def retry(ids: tuple[str, ...], everything: bool, yes: bool, dry_run: bool) -> int:
    """Requeue dead letters and reset their retry counts."""
    _connect()
    selection = _select(ids, everything)
    if not _confirm("requeue", selection, yes=yes, dry_run=dry_run):
        return selection.code
    requeued = 0
    errors: list[str] = []

    def requeue(batch: Sequence[str]) -> None:
        nonlocal requeued
        result = dead_letters.replay(batch)
        requeued += result.queued
        errors.extend(result.errors)

    _for_each_batch("Requeueing", selection, requeue)
    for error in errors:
        click.echo(visible(error), err=True)
    click.echo(f"{requeued} requeued, {len(errors)} failed.", err=True)
    return PARTIAL if errors else selection.code


@dlq.command()
@ids_argument
@all_option
@yes_option
@dry_run_option
def purge(ids: tuple[str, ...], everything: bool, yes: bool, dry_run: bool) -> int:
    """Delete dead letters permanently."""
    _connect()
    selection = _select(ids, everything)
    if not _confirm("delete", selection, yes=yes, dry_run=dry_run):
        return selection.code
    deleted = 0

    def delete(batch: Sequence[str]) -> None:
        nonlocal deleted
        deleted += dead_letters.purge(batch)

    _for_each_batch("Deleting", selection, delete)
    click.echo(f"{deleted} deleted.", err=True)
    return selection.code


@dataclass(frozen=True)
class _Selection:
    """Selected dead letters.

    total: number of selected dead letters.
    sample: the first selected dead letters, for the confirmation.
    batches: ids of all selected dead letters, in batches.
    code: exit code if all selected dead letters are processed.
    """

    total: int
    sample: Sequence[DeadLetter]
    batches: Iterable[Sequence[str]] = field(repr=False)
    code: int = OK


def _connect() -> None:
    runtime.connect(connected_settings(), "dlq")
    dead_letters.reconcile()  # otherwise the newest dead letters, which are still in Redis, would be missing


def _select(ids: Sequence[str], everything: bool) -> _Selection:
    """Return the selected dead letters.

    Raises `NotFound` if none of the ids exists, and `click.UsageError` unless either ids or --all are specified.
    """
    if everything == bool(ids):
        raise click.UsageError("specify either dead letter IDs or --all")
    if everything:
        return _Selection(dead_letters.count(), dead_letters.list_(output.SAMPLE_SIZE), dead_letters.ids())
    letters = dead_letters.get_many(ids)
    existing = [letter.dead_letter_id for letter in letters]
    missing = ", ".join(sorted(set(ids) - set(existing)))
    if not letters:
        raise NotFound(f"dead letters not found: {missing}")
    if missing:
        click.echo(f"Dead letters not found: {missing}.", err=True)
    return _Selection(len(letters), letters, [existing], PARTIAL if missing else OK)


def _confirm(verb: str, selection: _Selection, *, yes: bool, dry_run: bool) -> bool:
    if not selection.total:
        click.echo("No dead letters.", err=True)
        return False
    sample = [f"{letter.dead_letter_id}  {letter.queue_name}  {letter.error}" for letter in selection.sample]
    action = f"{verb} {output.plural(selection.total, 'dead letter')}"
    return output.confirm(action, sample, selection.total, yes=yes, dry_run=dry_run)


def _for_each_batch(label: str, selection: _Selection, work: Callable[[Sequence[str]], None]) -> None:
    """Call `work` for each batch of ids; show the progress if stderr is a terminal."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(length=selection.total, label=label, show_pos=True, file=sys.stderr, hidden=hidden) as bar:
        for batch in selection.batches:
            work(batch)
            bar.update(len(batch))


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "dead_letter_id": letter.dead_letter_id,
        "dead_lettered_at": letter.dead_lettered_at.isoformat(timespec="seconds"),
        "queue": letter.queue_name,
        "event_id": None if letter.event_id is None else str(letter.event_id),
        "attempts": letter.attempts,
        "error": letter.error,
    }


def _visible_lines(text: str) -> str:
    return visible(text, keep="\n\t")


def _readable(message: bytes) -> Any:
    """Return the JSON value of a message or, if it is not JSON, its text with undecodable bytes escaped."""
    try:
        return json.loads(message)
    except ValueError:
        return message.decode(errors="backslashreplace")

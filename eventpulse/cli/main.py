"""The command line: each command calls the room that does its work.

Data goes to stdout, everything else to stderr. Exit codes: 0 ok, 1 error, 2 usage, 3 findings,
4 not found, 5 partial, 6 declined, 69 Redis or PostgreSQL unreachable, 130 interrupted.
"""

import os
import signal
import sys
from dataclasses import asdict

import click

from eventpulse import __version__, logs
from eventpulse.cli import output
from eventpulse.cli.connection import connected_settings, database_settings, explained, redis_settings
from eventpulse.cli.dlq import dlq, dry_run, yes
from eventpulse.cli.options import Positive, url_option
from eventpulse.errors import INTERRUPTED, OK, UserError
from eventpulse.local.child import die_with_parent
from eventpulse.settings import ConnectedSettings, Settings, SettingsError, describe

# What a command needs is imported when it runs: `--help` and completion have to be quick.


@click.group("eventpulse", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--parent", type=int, hidden=True, help="The supervisor's process, to end with.")
def commands(parent: int | None) -> None:
    """EventPulse stores each event once and tells the right people within a fraction of a second."""
    if parent is not None:
        die_with_parent(parent)


commands.add_command(dlq)


@commands.command()
def up() -> int:
    """Run everything in this terminal; without REDIS_URL and DATABASE_URL with servers of its own."""
    settings = Settings.from_environ()
    logs.configure(settings.log_level, settings.log_format)
    from eventpulse.local import launcher

    return launcher.up(settings)


@commands.command()
def api() -> int:
    """Run the HTTP API."""
    settings = _process_settings()
    from api import server

    return server.run(settings)


@commands.command()
def live() -> int:
    """Run the WebSocket gateway."""
    settings, redis_url = redis_settings()
    logs.configure(settings.log_level, settings.log_format)
    from api.live import gateway

    return gateway.run(settings, redis_url)


@commands.command()
def worker() -> int:
    """Run one worker process: store, evaluate, notify."""
    settings = _process_settings()
    from actors import worker

    return worker.run(settings)


@commands.command()
def scheduler() -> int:
    """Run the scheduler; of several, one leads."""
    settings = _process_settings()
    from schedules import scheduler

    return scheduler.run(settings)


@commands.command()
@click.argument("direction", type=click.Choice(["up", "down", "status"]), default="up")
@click.argument("target", required=False)
@output.format_option
@yes
@dry_run
def migrate(direction: str, target: str | None, form: str, yes: bool, dry_run: bool) -> int:
    """Bring the schema up to date, take it back (the newest step, or all back through TARGET), or show where it is."""
    from eventpulse.cli import migrate

    settings, database_url = database_settings()
    return migrate.run(settings, database_url, direction, target, form=form, yes=yes, dry_run=dry_run)


@commands.command()
@output.format_option
def check(form: str) -> int:
    """Show every setting, and where it comes from."""
    output.emit([asdict(setting) for setting in describe()], form, ("variable", "value", "source", "meaning"))
    return OK


@commands.command()
@output.format_option
def doctor(form: str) -> int:
    """See whether the servers are fit to keep what is accepted, and whether the work gets done."""
    from eventpulse.cli import doctor

    return doctor.run(form=form)


@commands.command()
@url_option
def demo(url: str | None) -> int:
    """Send realistic traffic, then a burst of payment errors, and show the alert that follows."""
    from eventpulse.cli import demo

    _end_at_once_when_interrupted()
    return demo.run(url or demo.default_url(Settings.from_environ()))


@commands.command()
@url_option
@click.option("--batch", type=click.IntRange(1, 1_000), default=100, show_default=True, help="Events a request.")
@click.option("--rate", type=Positive(), help="Events a second; by default all it takes.")
@click.option("--seconds", type=Positive(), default=10, show_default=True)
@click.option("--connections", type=click.IntRange(1, 500), default=8, show_default=True)
@output.format_option
def bench(url: str | None, batch: int, rate: float | None, seconds: float, connections: int, form: str) -> int:
    """Measure a running EventPulse, with events of the sources bench-00 to bench-19 that it will store."""
    from eventpulse.cli import bench, demo

    _end_at_once_when_interrupted()
    url = url or demo.default_url(Settings.from_environ())
    return bench.run(url, batch=batch, rate=rate, seconds=seconds, connections=connections, form=form)


def _end_at_once_when_interrupted() -> None:
    """For commands that have nothing to put away.

    httpcore hangs for ever when Ctrl-C comes between its taking a lock and its entering the block that gives it back.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))


def _process_settings() -> ConnectedSettings:
    settings = connected_settings()
    logs.configure(settings.log_level, settings.log_format)
    return settings


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        code = commands.main(prog_name="eventpulse", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except SettingsError as error:
        code = _fail(*error.problems)
    except UserError as trouble:
        code = _fail(str(trouble), code=trouble.exit_code)
    except Exception as error:
        outage = explained(error)
        if outage is None:
            raise
        code = _fail(str(outage), code=outage.exit_code)
    sys.exit(code if isinstance(code, int) else OK)


def _fail(*problems: str, code: int = 1) -> int:
    for problem in problems:
        click.echo(f"Error: {problem}", err=True)
    return code

"""Command line: its commands, its exit codes, and the output of errors.

Commands write their data to stdout, and everything else to stderr. Exit codes: 0 success, 1 error, 2 usage error,
3 findings, 4 not found, 5 partial success, 6 declined, 69 Redis, PostgreSQL or the API unavailable, 130 interrupted.
"""

import importlib
import sys
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from eventpulse import __version__
from eventpulse.cli.connection import explained
from eventpulse.errors import INTERRUPTED, OK, UserError
from eventpulse.local.child import PARENT_OPTION, die_with_parent
from eventpulse.settings import SettingsError
from eventpulse.visible_text import visible


class Entry(NamedTuple):
    """Location of a command as module:attribute, and the description of the command in `eventpulse --help`."""

    target: str
    help: str


#: Every command, in the order of `eventpulse --help`. A module is imported when its command is used.
REGISTRY = {
    "up": Entry("eventpulse.cli.processes:up", "Run everything in this terminal."),
    "api": Entry("eventpulse.cli.processes:api", "Run the HTTP API."),
    "live": Entry("eventpulse.cli.processes:live", "Run the WebSocket gateway."),
    "worker": Entry("eventpulse.cli.processes:worker", "Run one worker process."),
    "scheduler": Entry("eventpulse.cli.processes:scheduler", "Run a scheduler."),
    "migrate": Entry("eventpulse.cli.migrate:migrate", "Update, revert or show the database schema."),
    "check": Entry("eventpulse.cli.check:check", "Show every setting and its source."),
    "doctor": Entry("eventpulse.cli.doctor:doctor", "Check the servers, the workers, the queue and the rules."),
    "dlq": Entry("eventpulse.cli.dlq:dlq", "List, show, requeue and delete dead letters."),
    "demo": Entry("eventpulse.cli.demo:demo", "Send ordinary events and a burst of errors, and show the alert."),
    "bench": Entry("eventpulse.cli.bench:bench", "Measure the throughput and latency of a running EventPulse."),
}


class LazyGroup(click.Group):
    """Group of the commands in `REGISTRY`. Help and completion do not import the modules of the commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        return list(REGISTRY)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in REGISTRY:
            return None
        module, _, attribute = REGISTRY[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in REGISTRY.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        matching = [name for name in REGISTRY if name.startswith(incomplete)]
        items = [CompletionItem(name, help=REGISTRY[name].help) for name in matching]
        return items + click.Command.shell_complete(self, ctx, incomplete)


@click.group("eventpulse", cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option(
    PARENT_OPTION,
    type=int,
    hidden=True,
    help="Process id of the supervisor; this process stops when the supervisor exits.",
)
def commands(parent: int | None) -> None:
    """Store events, detect anomalies with rules, and send alerts.

    Settings come from the environment and from .env; see `eventpulse check`.
    """
    if parent is not None:
        die_with_parent(parent)


def main() -> None:
    """Run the command line and exit with its exit code."""
    code: Any
    try:
        code = commands.main(prog_name="eventpulse", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except SettingsError as error:
        code = _fail(*error.problems)
    except UserError as error:
        code = _fail(str(error), code=error.exit_code)
    except Exception as error:
        outage = explained(error)
        if outage is None:
            raise
        code = _fail(str(outage), code=outage.exit_code)
    sys.exit(code if isinstance(code, int) else OK)


def _fail(*problems: str, code: int = 1) -> int:
    for problem in problems:
        click.echo(visible(f"Error: {problem}"), err=True)
    return code

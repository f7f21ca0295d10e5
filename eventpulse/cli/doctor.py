"""`eventpulse doctor`: whether the servers are fit for use, and whether the work gets done."""

from collections.abc import Iterator
from dataclasses import asdict

import click

from actors import runtime
from actors.broker import broker
from actors.recovery import dead_letters
from actors.transport import queues
from eventpulse import preflight
from eventpulse.cli import output
from eventpulse.cli.connection import connected_settings
from eventpulse.errors import FINDINGS, OK, Unreachable
from eventpulse.preflight import Finding
from eventpulse.settings import ConnectedSettings

COLUMNS = ("server", "check", "state", "found", "remedy")


def run(form: str) -> int:
    """Print every check; returns 0, 3 when something is wrong, and 69 when a server does not answer."""
    settings = connected_settings()
    findings = examine(settings)
    output.emit([asdict(finding) for finding in findings], form, COLUMNS)
    wrong = [finding for finding in findings if finding.state != "ok"]
    for finding in wrong:
        click.echo(f"Finding: {finding}", err=True)
    if not wrong:
        click.echo("All is well.", err=True)
    if any(finding.state == "unreachable" for finding in wrong):
        return Unreachable.exit_code
    return FINDINGS if wrong else OK


def examine(settings: ConnectedSettings) -> list[Finding]:
    """Every check of both servers and, when both answer and have their tables, of what is done with them."""
    found = [*preflight.check_redis(settings.redis_url), *preflight.check_postgres(settings.database_url)]
    if not any(finding.state in ("unreachable", "fatal") for finding in found):
        runtime.connect(settings, "doctor")
        found += _at_work()
    return found


def _at_work() -> Iterator[Finding]:
    alive, states = queues.workers_alive(broker), queues.depths(broker)
    oldest = max((state.oldest_age_seconds for state in states.values()), default=0.0)
    waiting = sum(state.depth for state in states.values())
    dead = dead_letters.count() + sum(state.dead for state in states.values())

    def result(check: str, ok: bool, found: str, remedy: str) -> Finding:
        return Finding("EventPulse", check, "ok" if ok else "warning", found, "" if ok else remedy)

    yield result("workers", alive > 0, f"{alive} at work", "start one: `eventpulse worker`")
    keeps_up = oldest <= queues.LAGGING_SECONDS
    yield result("backlog", keeps_up, f"{waiting} messages, the oldest {oldest:.0f} s", "start more workers")
    yield result("dead letters", dead == 0, str(dead), "see why: `eventpulse dlq list`")

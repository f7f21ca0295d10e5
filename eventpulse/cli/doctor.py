"""`eventpulse doctor`: checks of the servers, the workers, the queue and the rules."""

from dataclasses import asdict
from functools import partial

import click

from actors import runtime
from actors.broker import broker
from actors.recovery import dead_letters
from actors.rule_state import report, rulebook
from actors.transport import queues
from eventpulse import preflight
from eventpulse.cli import output
from eventpulse.cli.connection import connected_settings
from eventpulse.errors import FINDINGS, OK, Unreachable
from eventpulse.preflight import Finding
from eventpulse.settings import ConnectedSettings
from eventpulse.times import display_utc
from eventpulse.visible_text import visible
from models import migrations
from models.anomaly import Anomaly
from models.channel import Channel
from models.channel_health import health
from models.database import connection
from models.rule import Rule
from rules import conditions

COLUMNS = ("server", "check", "state", "found", "remedy")


@click.command()
@output.format_option
def doctor(form: str) -> int:
    """Check the configuration of Redis and PostgreSQL, the workers, the backlog, the dead letters and the rules.

    Exits with 3 if a check fails, and with 69 if a server is unavailable.
    """
    findings = examine(connected_settings())
    output.emit([asdict(finding) for finding in findings], form, COLUMNS)
    failed = [finding for finding in findings if finding.state != "ok"]
    for finding in failed:
        click.echo(visible(f"Finding: {finding}"), err=True)
    if not failed:
        click.echo("All checks passed.", err=True)
    if any(finding.state == "unreachable" for finding in failed):
        return Unreachable.exit_code
    return FINDINGS if failed else OK


def examine(settings: ConnectedSettings) -> list[Finding]:
    """Return the findings about both servers and, if none is unreachable or fatal, about workers, queues and rules."""
    findings = [
        *preflight.check_redis(settings.redis_url, settings.max_redis_memory_percent),
        *preflight.check_postgres(settings.database_url, migrations.pending),
    ]
    if any(finding.state in ("unreachable", "fatal") for finding in findings):
        return findings
    runtime.connect(settings, "doctor")
    checks = (_workers, _backlog, _channels, _dead_letters, _unsupported_rules, _rule_state, _rule_warnings, _storms)
    return [*findings, *(check() for check in checks)]


_result = partial(preflight.finding, "EventPulse", otherwise="warning")


def _workers() -> Finding:
    alive = queues.workers_alive(broker)
    return _result("workers", alive > 0, f"{alive} alive", "start a worker: `eventpulse worker`")


def _backlog() -> Finding:
    states = queues.depths(broker).values()
    waiting = sum(state.depth for state in states)
    oldest = max((state.oldest_age_seconds for state in states), default=0.0)
    backlog = f"{output.plural(waiting, 'message')}, the oldest {oldest:.0f} s old" if waiting else "empty"
    return _result("backlog", oldest <= queues.LAGGING_SECONDS, backlog, "start more workers")


def _channels() -> Finding:
    """Return the finding about enabled channels that are failing, or on which alerts wait for long."""
    with connection():
        channels = {channel.name: health(channel) for channel in Channel.select().where(Channel.enabled)}
    slow = [
        f"{name}: {found.status}{f' ({found.last_error})' if found.last_error else ''}, {found.waiting} waiting"
        for name, found in channels.items()
        if found.status == "failing" or found.is_slow
    ]
    remedy = "repair the server or the settings of the channel; a change of the channel ends its pause"
    return _result("channels", not slow, "; ".join(slow) or f"{len(channels)} working", remedy)


def _dead_letters() -> Finding:
    """Return the finding about the dead letters, in PostgreSQL and in Redis, including conflicting duplicates."""
    total = dead_letters.count() + sum(state.dead for state in queues.depths(broker).values())
    return _result("dead letters", total == 0, str(total), "run `eventpulse dlq list` to see the reasons")


def _unsupported_rules() -> Finding:
    """Return the finding about rules that a running worker does not support, for example because it is older."""
    reasons = [f"{rule_id} ({reason})" for rule_id, reason in rulebook.unsupported_rules(broker).items()]
    remedy = "upgrade all workers to the same version, or change the rules"
    return _result("rules supported", not reasons, "; ".join(reasons) or "all", remedy)


def _rule_state() -> Finding:
    """Return the finding about rules whose windows need more memory than their budget."""
    degraded = {rule_id: state.degraded for rule_id, state in report.read_all().items() if state.degraded}
    reasons = [f"{rule_id} ({degradation.reason})" for rule_id, degradation in degraded.items()]
    remedy = "use narrower filters or fewer groups in these rules, or raise EVENTPULSE_RULE_MEMORY_MB"
    return _result("rule state", not reasons, "; ".join(reasons) or "within budget", remedy)


def _rule_warnings() -> Finding:
    """Return the finding about the rules in force whose conditions have warnings."""
    with connection():
        rules = Rule.in_force()[1]
    warnings = [f"{rule.name}: {text}" for rule in rules for text in conditions.warnings(rule.condition)]
    return _result("rule conditions", not warnings, " ".join(warnings) or "no warnings", "change these rules")


def _storms() -> Finding:
    """Return the finding about the rules in force that are marked as storming."""
    with connection():
        storms = Anomaly.current_storms()
        rules = Rule.in_force()[1]
    storming = [
        f"{rule.name} since {display_utc(storm.since)}"
        for rule in rules
        if (storm := storms.get(rule.rule_id)) and storm.marks(rule.version)
    ]
    remedy = "raise the threshold or the cooldown of these rules, or disable them"
    return _result("rule storms", not storming, "; ".join(storming) or "none", remedy)

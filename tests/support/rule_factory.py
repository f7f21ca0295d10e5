"""Events and rules for tests of the rule engine, and an oracle that processes all events in order of time."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rules.engine.evaluate import Evaluation, evaluate_batch
from rules.engine.index import RuleSet
from rules.event import Event
from rules.rule import Rule, parse_rule
from rules.windows.queries import Window

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
THRESHOLD: dict[str, Any] = {"type": "threshold", "filters": {"event_type": "error"}, "operator": ">", "value": 2}


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def event(number: int, seconds: float | None = None, **fields: Any) -> Event:
    """Return an event of type `error`, which occurs and is received `seconds` (by default `number`) after noon."""
    time = at(number if seconds is None else seconds)
    defaults = {
        "event_id": f"00000000-0000-7000-8000-{number:012}",
        "event_type": "error",
        "source": "shop",
        "timestamp": time,
        "payload": {},
        "metadata": {},
        "received_at": time,
    }
    return Event(**(defaults | fields))


def row(condition: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Return the row of a rule that by default fires for more than two errors in ten seconds, without a cooldown."""
    defaults = {
        "rule_id": "r1",
        "name": "Many errors",
        "severity": "critical",
        "version": 1,
        "window_seconds": 10,
        "cooldown_seconds": 0,
        "allowed_lateness_seconds": 3600,
        "condition": THRESHOLD if condition is None else condition,
    }
    return defaults | fields


def rule(condition: dict[str, Any] | None = None, **fields: Any) -> Rule:
    """Return the compiled rule for the row that `row()` returns for these arguments."""
    return parse_rule(row(condition, **fields))


def decide(events: Iterable[Event], window: Window, *rules: Rule) -> Evaluation:
    """Return the evaluation of the rules for one batch of events."""
    return evaluate_batch(list(events), RuleSet(rules), window)


def settle(evaluation: Evaluation, window: Window) -> Evaluation:
    """Start the cooldowns of the firings, as after the recording of their anomalies; return the evaluation."""
    window.start_cooldowns([firing.claim for firing in evaluation.firings if firing.rule.cooldown_seconds])
    return evaluation


def fired(events: Iterable[Event], window: Window, *rules: Rule) -> list[int]:
    """Evaluate the rules, start the cooldowns, and return the numbers of the events for which a rule fired."""
    return [number(firing.event_id) for firing in settle(decide(events, window, *rules), window).firings]


def number(event_id: str) -> int:
    return int(event_id[-12:])


def in_order(events: Sequence[Event], needed: int, seconds: float) -> set[str]:
    """Return the ids of the events that are, in order of time, the last of `needed` events in less than `seconds`."""
    ordered = sorted(events, key=lambda each: (each.timestamp, each.event_id))
    spans = zip(ordered, ordered[needed - 1 :], strict=False)
    return {last.event_id for first, last in spans if last.timestamp - first.timestamp < timedelta(seconds=seconds)}

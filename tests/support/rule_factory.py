"""Events and rules to decide on, without a server; and a judge who sees all events at once, in order."""

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
    """Error event `number`, so many seconds after noon, received without delay."""
    time = at(number if seconds is None else seconds)
    made = {
        "event_id": f"00000000-0000-7000-8000-{number:012}",
        "event_type": "error",
        "source": "shop",
        "timestamp": time,
        "payload": {},
        "metadata": {},
        "received_at": time,
    }
    return Event(**(made | fields))


def row(condition: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    made = {
        "rule_id": "r1",
        "name": "Many errors",
        "severity": "critical",
        "version": 1,
        "window_seconds": 10,
        "cooldown_seconds": 0,
        "allowed_lateness_seconds": 3600,
        "condition": THRESHOLD if condition is None else condition,
    }
    return made | fields


def rule(condition: dict[str, Any] | None = None, **fields: Any) -> Rule:
    """More than two errors in ten seconds, without a cooldown, unless told otherwise."""
    return parse_rule(row(condition, **fields))


def decide(events: Iterable[Event], window: Window, *rules: Rule) -> Evaluation:
    return evaluate_batch(list(events), RuleSet(rules), window)


def settle(found: Evaluation, window: Window) -> Evaluation:
    """What follows when the anomalies of an evaluation are recorded."""
    window.start_cooldowns([firing.claim for firing in found.firings if firing.rule.cooldown_seconds])
    return found


def fired(events: Iterable[Event], window: Window, *rules: Rule) -> list[int]:
    """The numbers of the events that the rules fired for, and whose anomalies were recorded."""
    return [number(firing.event_id) for firing in settle(decide(events, window, *rules), window).firings]


def number(event_id: str) -> int:
    return int(event_id[-12:])


def in_order(events: Sequence[Event], needed: int, seconds: float) -> set[str]:
    """The ids of those events that are the last of `needed` within the seconds before them."""
    ordered = sorted(events, key=lambda each: (each.timestamp, each.event_id))
    spans = zip(ordered, ordered[needed - 1 :], strict=False)
    return {last.event_id for first, last in spans if last.timestamp - first.timestamp < timedelta(seconds=seconds)}

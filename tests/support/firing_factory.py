"""Firings of stored rules for tests."""

from collections.abc import Sequence

import msgspec

from models.rule import Rule
from rules.engine.evaluate import evaluate_batch
from rules.engine.index import RuleSet
from rules.engine.series import Firing
from rules.event import Event
from rules.rule import parse_rule
from rules.windows.memory import MemoryWindow

ALWAYS = {"type": "threshold", "filters": {"event_type": "order"}, "operator": ">=", "value": 1}


def firings(row: Rule, events: Sequence[bytes]) -> list[Firing]:
    """Return the firings of a rule for these events, evaluated alone with empty windows and without cooldowns."""
    parsed = parse_rule(row.__data__)
    return evaluate_batch(
        [msgspec.json.decode(event, type=Event) for event in events], RuleSet([parsed]), MemoryWindow()
    ).firings

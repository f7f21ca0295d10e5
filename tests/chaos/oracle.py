"""Oracle for anomalies: in-memory evaluation of the stored events in time order, to check the recorded anomalies.

Without a cooldown, the anomalies must be exactly the triggers. With a cooldown, the order of processing decides which
trigger of a group is recorded. Then three conditions must hold: each anomaly is a trigger, two anomalies of a group are
at least one cooldown apart, and each trigger without an anomaly is within one cooldown of an anomaly.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from chaos.server_state import RecordedAnomaly, ServerState
from chaos.system import AnomalyKey

from actors.rule_state.rulebook import FIELDS
from rules.engine.evaluate import evaluate_batch
from rules.engine.index import RuleSet
from rules.engine.series import Firing
from rules.event import SECOND, Event, microseconds
from rules.rule import Rule, parse_rule
from rules.windows.memory import MemoryWindow

COLUMNS = ("rule_id", *FIELDS)
EVENTS = """SELECT event_id::text, event_type, source, timestamp, payload, metadata, received_at
            FROM events ORDER BY timestamp, event_id"""


def wrong_anomalies(state: ServerState) -> set[AnomalyKey]:
    """Return the keys of wrong anomalies and of triggers whose anomaly is missing."""
    rules = all_rules(state)
    cooldowns = {rule.name: rule.cooldown_seconds * SECOND for rule in rules}
    expected: dict[str, dict[AnomalyKey, int]] = defaultdict(dict)
    for firing in triggers(state, rules):
        expected[firing.rule.name][firing.rule.name, firing.group_key, firing.event_id] = microseconds(
            firing.occurred_at
        )
    recorded: dict[str, list[RecordedAnomaly]] = defaultdict(list)
    for each in state.anomalies():
        recorded[each.rule_name].append(each)
    wrong: set[AnomalyKey] = set()
    for name in cooldowns.keys() | recorded.keys():
        wrong |= wrong_of_rule(recorded[name], expected[name], cooldowns.get(name, 0))
    return wrong


def wrong_of_rule(recorded: list[RecordedAnomaly], expected: dict[AnomalyKey, int], cooldown: int) -> set[AnomalyKey]:
    """Return the keys of wrong anomalies and of triggers whose anomaly is missing, for one rule.

    Two anomalies within one cooldown have the key ("too close", group, times). `expected` contains the time of each
    trigger. Times and `cooldown` are in microseconds.
    """
    keys = {each.key for each in recorded}
    if not cooldown:
        return keys ^ expected.keys()
    wrong = keys - expected.keys()
    times: dict[str, list[int]] = defaultdict(list)
    for each in recorded:
        times[each.group_key].append(each.at)
    for group, group_times in times.items():
        wrong |= {
            ("too close", group, f"{one} {other}") for one, other in pairwise(group_times) if other - one < cooldown
        }
    return wrong | {trigger for trigger, at in expected.items() if not _near(times[trigger[1]], at, cooldown)}


def all_rules(state: ServerState) -> list[Rule]:
    """Return all rules in the database except those of neighbours."""
    rows = state.rows(f"SELECT {', '.join(COLUMNS)} FROM rules WHERE name NOT LIKE 'neighbour %'")
    return [parse_rule(dict(zip(COLUMNS, row, strict=True))) for row in rows]


def triggers(state: ServerState, rules: list[Rule]) -> Iterator[Firing]:
    """Yield the firings of these rules for the stored events, as if no rule had a cooldown."""
    without_cooldown = RuleSet([replace(rule, cooldown_seconds=0) for rule in rules])
    window = MemoryWindow()
    for rows in state.stream(EVENTS):
        yield from evaluate_batch([Event(*row) for row in rows], without_cooldown, window).firings


def _near(times: list[int], at: int, cooldown: int) -> bool:
    """Return whether one of the ordered times differs from `at` by less than the cooldown."""
    return bisect_left(times, at - cooldown + 1) < bisect_left(times, at + cooldown)

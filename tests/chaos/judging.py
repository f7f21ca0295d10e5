"""The judge: what the rules say of all stored events, seen at once and in order; and what that makes of the anomalies.

Without a cooldown the anomalies are exactly the triggers. With one it depends on who comes first which trigger of a
group speaks, but each that speaks is one, no two are within the cooldown of each other, and none that is silent is
further than the cooldown from one that spoke.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from chaos.observing import Observed, Spoken
from chaos.system import Found

from actors.rule_state.rulebook import FIELDS
from rules.engine.evaluate import Firing, evaluate
from rules.engine.index import RuleSet
from rules.event import SECOND, Event, microseconds
from rules.rule import Rule, parse_rule
from rules.windows.memory import MemoryWindow

COLUMNS = ("rule_id", *FIELDS)
EVENTS = """SELECT event_id::text, event_type, source, timestamp, payload, metadata, received_at
            FROM events ORDER BY timestamp, event_id"""


def wrong_anomalies(observed: Observed) -> set[Found]:
    """Anomalies that should not be, and triggers that should be anomalies, or have one near them, and have none."""
    rules = in_force(observed)
    cooldowns = {rule.name: rule.cooldown_seconds * SECOND for rule in rules}
    due: dict[str, dict[Found, int]] = defaultdict(dict)
    for firing in triggers(observed, rules):
        due[firing.rule.name][firing.rule.name, firing.group_key, firing.event_id] = microseconds(firing.occurred_at)
    spoken: dict[str, list[Spoken]] = defaultdict(list)
    for each in observed.anomalies():
        spoken[each.rule_name].append(each)
    wrong: set[Found] = set()
    for name in cooldowns.keys() | spoken.keys():
        wrong |= judge(spoken[name], due[name], cooldowns.get(name, 0))
    return wrong


def judge(spoken: list[Spoken], due: dict[Found, int], cooldown: int) -> set[Found]:
    """The wrong ones of one rule; `due` has the triggers with their times, `cooldown` is in microseconds."""
    found = {each.found for each in spoken}
    if not cooldown:
        return found ^ due.keys()
    wrong = found - due.keys()
    times: dict[str, list[int]] = defaultdict(list)
    for each in spoken:
        times[each.group_key].append(each.at)
    for group, ats in times.items():
        wrong |= {("too close", group, f"{one} {other}") for one, other in pairwise(ats) if other - one < cooldown}
    return wrong | {trigger for trigger, at in due.items() if not _near(times[trigger[1]], at, cooldown)}


def in_force(observed: Observed) -> list[Rule]:
    rows = observed.rows(f"SELECT {', '.join(COLUMNS)} FROM rules")
    return [parse_rule(dict(zip(COLUMNS, row, strict=True))) for row in rows]


def triggers(observed: Observed, rules: list[Rule]) -> Iterator[Firing]:
    """Every event that a rule fires for, were there no cooldowns."""
    loud = RuleSet([replace(rule, cooldown_seconds=0) for rule in rules])
    window = MemoryWindow()
    for rows in observed.stream(EVENTS):
        yield from evaluate([Event(*row) for row in rows], loud, window).firings


def _near(times: list[int], at: int, cooldown: int) -> bool:
    """Whether any of the ordered times is less than the cooldown away."""
    return bisect_left(times, at - cooldown + 1) < bisect_left(times, at + cooldown)

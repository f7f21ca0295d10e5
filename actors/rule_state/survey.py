"""Survey of the state of all rules: estimates its memory, degrades rules above their budget, and releases orphans."""

from collections.abc import Mapping

import structlog

from actors.broker import broker
from actors.rule_state import owners, report
from actors.rule_state.owners import Owners
from actors.rule_state.report import Cost, Degradation, RuleState
from actors.rule_state.sweep import Plan, Sweep, Tally, sweep
from actors.rule_state.windows.measured_window import take_sums
from models.base import now
from rules.event import SECOND
from rules.rule import Rule

log = structlog.get_logger()

MIB = 1024 * 1024
#: Number of groups of an owner from which on only a part of its keys is measured.
MEASURED_GROUPS = 1_000
#: Part of the budget below which a degraded rule recovers, so that it does not become degraded again immediately.
RECOVERY_SHARE = 0.8
#: Sleep after each step, as a multiple of its duration, so that a survey uses at most 5 % of the time of Redis.
PAUSE = 19.0
#: Seconds for which the keys of a degraded rule are kept longer than their windows; MIN_GRACE in windows/prelude.lua.
MIN_GRACE_SECONDS = 180


class StateSurvey:
    """Job that surveys the state of all rules. Each rule may use `budget_mib` MiB of Redis."""

    def __init__(self, budget_mib: int) -> None:
        self._budget = budget_mib * MIB

    def run(self) -> int:
        """Survey the state of all rules and return the number of deleted keys that belonged to no rule.

        Raises `redis.RedisError` or `peewee.PeeweeException` if a server is unavailable.
        """
        before = report.read_all()
        swept = sweep(lambda known: _plan(known, before), pause=PAUSE)
        uncounted, costs = report.take_uncounted(), _costs(swept.owners)
        rules = {rule.rule_id: rule for owned in swept.owners.rules.values() for rule in owned}
        states = {rule.rule_id: self._state(rule, swept, before, uncounted, costs) for rule in rules.values()}
        degraded = [rule for rule in rules.values() if states[rule.rule_id].degraded]
        report.publish(states, {owner for rule in degraded for owner in owners.of(rule)})
        _log_changes(rules, before, states)
        if swept.released:
            log.info("rule_state_released", keys=swept.released)
        return swept.released

    def _state(
        self,
        rule: Rule,
        swept: Sweep,
        before: Mapping[str, RuleState],
        uncounted: Mapping[str, int],
        costs: Mapping[str, Cost],
    ) -> RuleState:
        tallies = [swept.tallies.get(owner, Tally(owner)) for owner in owners.of(rule)]
        size = sum(tally.bytes for tally in tallies)
        windows, cooldowns = (sum(getattr(tally, name) for tally in tallies) for name in ("windows", "cooldowns"))
        known = before.get(rule.rule_id, RuleState())
        degraded = degradation(known.degraded, size, self._budget)
        missed = sum(uncounted.get(owner, 0) for owner in owners.of(rule))
        return RuleState(
            state_bytes=size,
            series=windows if rule.condition.windowed else cooldowns,
            degraded=degraded,
            uncounted_events=missed + (known.uncounted_events if degraded and known.degraded else 0),
            cost=costs.get(owners.owner(rule.window_key)),
        )


def degradation(before: Degradation | None, size: int, budget: int) -> Degradation | None:
    """Return why a rule whose state needs `size` bytes is degraded, or None if it is not."""
    recovered = budget * RECOVERY_SHARE
    if size <= (recovered if before else budget):
        return None
    reason = (
        f"the state needs {size / MIB:.1f} MiB, the budget is {budget / MIB:.0f} MiB; "
        f"events of new groups are not counted until the state needs at most {recovered / MIB:.1f} MiB"
    )
    return Degradation(reason, before.since if before else now())


def _costs(known: Owners) -> dict[str, Cost]:
    """Return the cost of each rule of an owner: rules that share windows share their time equally."""
    microseconds, events = take_sums(broker.client)
    all_rules = sum(microseconds.values())
    costs = {}
    for prefix, amount in microseconds.items():
        owner = owners.owner(prefix)
        if events.get(prefix) and (rules := known.rules.get(owner)):
            costs[owner] = Cost(
                round(amount / events[prefix] / len(rules), 2), round(amount / max(1, all_rules) / len(rules), 4)
            )
    return costs


def _plan(known: Owners, before: Mapping[str, RuleState]) -> Plan:
    """Return how to treat the keys of each owner: measure only a part of many keys; shorten those of degraded rules."""
    return {owner: (_every(rules, before), _ttl(rules, before)) for owner, rules in known.rules.items()}


def _every(rules: list[Rule], before: Mapping[str, RuleState]) -> int:
    series = max((before[rule.rule_id].series for rule in rules if rule.rule_id in before), default=0)
    return max(1, series // MEASURED_GROUPS)


def _ttl(rules: list[Rule], before: Mapping[str, RuleState]) -> int:
    """Return the minimum retention of the keys of these rules in seconds if one of them is degraded, otherwise 0."""
    if not any(rule.rule_id in before and before[rule.rule_id].degraded for rule in rules):
        return 0
    return max(rule.least_retention for rule in rules) // SECOND + MIN_GRACE_SECONDS


def _log_changes(rules: Mapping[str, Rule], before: Mapping[str, RuleState], states: Mapping[str, RuleState]) -> None:
    for rule_id, state in states.items():
        was_degraded = before.get(rule_id, RuleState()).degraded
        if state.degraded and not was_degraded:
            log.warning("rule_degraded", rule_id=rule_id, rule=rules[rule_id].name, reason=state.degraded.reason)
        elif was_degraded and not state.degraded:
            log.info("rule_recovered", rule_id=rule_id, rule=rules[rule_id].name, state_bytes=state.state_bytes)

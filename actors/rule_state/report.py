"""Report on the state of each rule: the memory of its windows and cooldowns, and the cost of its evaluation."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from actors.broker import broker
from eventpulse.redis_keys import KEY_PREFIX

#: Hash of rule id -> JSON of a `RuleState`. Each survey of the state replaces it.
STATES = f"{KEY_PREFIX}:rules.state"
#: Set of the owners of degraded rules, which the scripts of the windows read; see windows/prelude.lua.
DEGRADED = f"{KEY_PREFIX}:rules.degraded"
#: Hash of owner -> number of events of degraded rules that were not counted since the last survey.
UNCOUNTED = f"{KEY_PREFIX}:rules.uncounted"


class Degradation(msgspec.Struct, frozen=True):
    """Reason for which a rule is degraded, and the time since when."""

    reason: str
    since: datetime


class Cost(msgspec.Struct, frozen=True):
    """Time of the updates and queries of the windows of a rule, from a sample of the batches.

    microseconds_per_event: for each event that matches the rule.
    share: part of the time of all windows, from 0 to 1.
    """

    microseconds_per_event: float
    share: float


class RuleState(msgspec.Struct, frozen=True):
    """State of one rule at the last survey.

    state_bytes: estimated memory of the windows and cooldowns of the rule in Redis. A window that several rules share
        counts for each of them.
    series: number of groups with a window or, for a rule without windows, with a cooldown.
    degraded: set by the survey while the rule needs more memory than its budget.
    uncounted_events: number of events that were not counted in windows since the rule is degraded.
    cost: None for a rule without windows, and if no batch with a matching event was measured recently.
    """

    state_bytes: int = 0
    series: int = 0
    degraded: Degradation | None = None
    uncounted_events: int = 0
    cost: Cost | None = None


_decode = msgspec.json.Decoder(RuleState).decode


def read_all() -> dict[str, RuleState]:
    """Return the states of the surveyed rules, by rule id. Raises `redis.RedisError`."""
    stored: Any = broker.client.hgetall(STATES)
    return {rule_id.decode(): _decode(data) for rule_id, data in stored.items()}


def publish(states: Mapping[str, RuleState], degraded_owners: set[str]) -> None:
    """Replace the states of all rules and the set of the owners of degraded rules. Raises `redis.RedisError`."""
    with broker.client.pipeline() as pipeline:
        pipeline.delete(STATES, DEGRADED)
        if states:
            pipeline.hset(STATES, mapping={rule_id: msgspec.json.encode(state) for rule_id, state in states.items()})
        if degraded_owners:
            pipeline.sadd(DEGRADED, *degraded_owners)
        pipeline.execute()


def take_uncounted() -> dict[str, int]:
    """Return the numbers of events that were not counted, by owner, and reset them. Raises `redis.RedisError`."""
    with broker.client.pipeline() as pipeline:
        pipeline.hgetall(UNCOUNTED)
        pipeline.delete(UNCOUNTED)
        counts, _ = pipeline.execute()
    return {owner.decode(): int(count) for owner, count in counts.items()}

"""Storms: the firings of a rule above its caps, which are counted and not recorded one by one."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

from eventpulse.times import display_utc
from rules.engine.series import Firing
from rules.verdict import format_group

#: Time in which the anomalies of a series and of a rule are counted.
CAP_SECONDS = 60
#: Number of the most frequent groups in the message and in the evidence of a storm.
GROUPS_IN_MESSAGE, GROUPS_IN_EVIDENCE = 3, 10
MAX_GROUP_CHARACTERS = 200

#: Cap that suppresses a firing.
Reason = Literal["series cap", "rule cap"]


@dataclass(frozen=True, slots=True)
class StormCaps:
    """Maximum number of anomalies in `CAP_SECONDS`, for each series and for each rule."""

    per_series: int
    per_rule: int

    def exceeded(self, of_series: int, of_rule: int) -> Reason | None:
        """Return the cap that another anomaly would exceed, or None; the arguments are the current numbers."""
        if of_series >= self.per_series:
            return "series cap"
        return "rule cap" if of_rule >= self.per_rule else None

    def __str__(self) -> str:
        return f"{self.per_series} anomalies per group and {self.per_rule} per rule in {CAP_SECONDS} s"


class Suppressed(NamedTuple):
    """A firing that is counted only, and the reason."""

    firing: Firing
    reason: Reason


@dataclass(frozen=True, slots=True)
class Decision:
    """Firings to record, firings that are only counted, and firings within the cooldown of a firing to record."""

    recorded: list[Firing] = field(default_factory=list)
    suppressed: list[Suppressed] = field(default_factory=list)
    in_cooldown: list[Firing] = field(default_factory=list)


def decide(firings: Iterable[Firing], recent: Mapping[tuple[str, str], int], caps: StormCaps) -> Decision:
    """Decide for each of the firings of a batch, in this order, whether it is recorded, only counted, or in a cooldown.

    `recent` is the number of anomalies in the last `CAP_SECONDS`, by rule id and series.
    """
    of_series = Counter(recent)
    of_rule: Counter[str] = Counter()
    for (rule_id, _), count in recent.items():
        of_rule[rule_id] += count
    starts: dict[str, list[int]] = defaultdict(list)
    decision = Decision()
    for firing in firings:
        rule_id, series = firing.rule.rule_id, firing.claim.key
        if firing.claim.cooldown and _is_within(firing, starts[series]):
            decision.in_cooldown.append(firing)
            continue
        if reason := caps.exceeded(of_series[rule_id, series], of_rule[rule_id]):
            decision.suppressed.append(Suppressed(firing, reason))
            continue
        decision.recorded.append(firing)
        of_series[rule_id, series] += 1
        of_rule[rule_id] += 1
        if firing.claim.cooldown:
            starts[series].append(cooldown_start(firing))
    return decision


def cooldown_start(firing: Firing) -> int:
    """Return the time at which the cooldown of the firing starts, in microseconds."""
    ((at, _),) = firing.claim.members
    return at


def _is_within(firing: Firing, starts: Iterable[int]) -> bool:
    at = cooldown_start(firing)
    return any(abs(at - start) < firing.claim.cooldown for start in starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Suppressed firings of one rule in whole minutes.

    `group_count` is the number of groups, `top_groups` the group keys with the most firings and their numbers.
    `since` is the start of the storm, which can be in an earlier minute. `is_lasting`: whether the storm lasts for the
    configured number of minutes, so that the rule is marked as storming.
    """

    rule_name: str
    above_series_cap: int
    above_rule_cap: int
    seconds: int
    group_count: int
    top_groups: Sequence[tuple[str, int]]
    since: datetime
    is_lasting: bool

    @property
    def firings(self) -> int:
        return self.above_series_cap + self.above_rule_cap


def explain_storm(storm: Storm) -> str:
    """Return a message such as "High error rate: 1,842 further firings in 60 s, 37 groups, top source=a (900)"."""
    return f"{storm.rule_name}: {_summary(storm)}"


def storm_evidence(storm: Storm, caps: StormCaps) -> dict[str, Any]:
    """Return the evidence of a storm as JSON values, with the keys that the evidence of every anomaly has."""
    return {
        "reason": _summary(storm),
        "observed": storm.firings,
        "threshold": caps.per_rule,
        "limit": f"at most {caps}",
        "window_seconds": storm.seconds,
        "samples": [],
        "above_series_cap": storm.above_series_cap,
        "above_rule_cap": storm.above_rule_cap,
        "groups": storm.group_count,
        "top_groups": [{"group_key": key, "firings": count} for key, count in storm.top_groups[:GROUPS_IN_EVIDENCE]],
        "since": storm.since,
        "storming": storm.is_lasting,
    }


def _summary(storm: Storm) -> str:
    parts = [f"{storm.firings:,} further firing{'' if storm.firings == 1 else 's'} in {storm.seconds} s"]
    groups = [f"{text} ({count:,})" for key, count in storm.top_groups[:GROUPS_IN_MESSAGE] if (text := _group(key))]
    if groups:
        parts.append(f"{storm.group_count:,} group{'' if storm.group_count == 1 else 's'}")
        parts.append(f"top {', '.join(groups)}")
    lasting = f"; storming since {display_utc(storm.since)}" if storm.is_lasting else ""
    return ", ".join(parts) + lasting


def _group(group_key: str) -> str:
    """Return the text of a group, such as "source=checkout", or "" for a rule without groups."""
    try:
        return format_group(msgspec.json.decode(group_key)).removeprefix(" (").removesuffix(")")
    except msgspec.DecodeError:  # the key was cut, because it was too long
        return group_key[:MAX_GROUP_CHARACTERS] + "…"

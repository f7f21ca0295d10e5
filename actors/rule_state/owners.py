"""Owners of the keys of windows and cooldowns, derived from the published rules.

An owner is the part of a key between its kind and its group. It is a rule with the digest of its condition, or a scope
whose windows several rules share. `Rule.window_key` and `Rule.cooldown_key` define it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from actors.broker import broker
from actors.rule_state import rulebook
from rules.rule import Rule, parse_rule

log = structlog.get_logger()

#: Number of parts of a key before its owner: the prefix of all keys, and the kind.
PARTS_BEFORE_OWNER = 2


@dataclass(frozen=True, slots=True)
class Owners:
    """Owners of one revision of the rules, and the rules of each owner. An owner may have no rule that is readable.

    complete: whether this version can read all rules. If not, some shared windows have no owner here.
    """

    revision: str
    rules: Mapping[str, list[Rule]]
    complete: bool


def owner(prefix: str) -> str:
    """Return the owner of the keys with this prefix, a `window_key` or `cooldown_key`."""
    return prefix.split(":", PARTS_BEFORE_OWNER)[PARTS_BEFORE_OWNER]


def of(rule: Rule) -> set[str]:
    """Return the owners of the windows and of the cooldowns of a rule."""
    return {owner(rule.window_key), owner(rule.cooldown_key)}


def published() -> Owners:
    """Return the owners of the published rules. Raises `redis.RedisError` or `peewee.PeeweeException`."""
    data: Any = broker.client.get(rulebook.SNAPSHOT)
    if data is None:
        rulebook.publish()
        data = broker.client.get(rulebook.SNAPSHOT)
    snapshot = msgspec.json.decode(data)
    rules: dict[str, list[Rule]] = {}
    complete = True
    for row in snapshot["rules"]:
        try:
            rule = parse_rule(row)
        except Exception:  # of a newer version, or about to be suspended; the rulebook reports the reason
            complete = False
            rules[f"{row['rule_id']}:"] = []
        else:
            for known in of(rule):
                rules.setdefault(known, []).append(rule)
    return Owners(snapshot["revision"], rules, complete)

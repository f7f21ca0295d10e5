"""Sweep of the keys of windows and cooldowns, in steps that block Redis for about 2 ms."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from actors.broker import broker
from actors.rule_state import owners
from actors.rule_state.owners import Owners
from actors.transport.scripts import LuaScript
from eventpulse.redis_keys import KEY_PREFIX

FOLDER = Path(__file__).parent
SWEEP = LuaScript(FOLDER / "windows" / "prelude.lua", FOLDER / "sweep.lua")
EVERY_KEY = f"{KEY_PREFIX}:*"
#: Approximate number of keys that one step visits: 3 µs for each key. With the pattern of one owner, Redis skips most
#: keys in 1 µs. A command of a script may have fewer than 8,000 arguments, and a step may delete all of its keys.
KEYS_PER_STEP, KEYS_PER_STEP_OF_ONE_OWNER = 500, 2_000

#: Treatment of the keys of each owner: `every` and `ttl`, see sweep.lua.
Plan = Mapping[str, tuple[int, int]]


class Tally(msgspec.Struct, array_like=True):
    """Numbers of windows and cooldowns of an owner, one for each group, and their estimated memory in bytes."""

    owner: str
    windows: int = 0
    cooldowns: int = 0
    bytes: int = 0


class _Step(msgspec.Struct, array_like=True):
    """Reply of the script; `cursor` is None if other rules are published."""

    cursor: str | None = None
    released: int = 0
    tallies: list[Tally] = []


@dataclass(slots=True)
class Sweep:
    """Result of a sweep: the owners at its end, the number of deleted keys, and a tally of each owner with keys."""

    owners: Owners
    released: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)

    def add(self, step: _Step) -> None:
        self.released += step.released
        for part in step.tallies:
            tally = self.tallies.setdefault(part.owner, Tally(part.owner))
            tally.windows += part.windows
            tally.cooldowns += part.cooldowns
            tally.bytes += part.bytes


def sweep(plan: Callable[[Owners], Plan], pattern: str = EVERY_KEY, pause: float = 0.0) -> Sweep:
    """Visit all keys that match `pattern`, delete the keys without an owner, and count the others.

    After each step, sleep for `pause` times its duration. A key that is written during the sweep may be missed, and a
    key may be counted twice while Redis resizes its table. Raises `redis.RedisError` or `peewee.PeeweeException`.
    """
    result = Sweep(owners.published())
    cursor, keys = "0", KEYS_PER_STEP if pattern == EVERY_KEY else KEYS_PER_STEP_OF_ONE_OWNER
    while True:
        started = time.perf_counter()
        known = result.owners
        argument = (known.revision, cursor, keys, pattern, plan(known), known.complete)
        step = msgspec.msgpack.decode(SWEEP(broker.client, [], [msgspec.msgpack.encode(argument)]), type=_Step)
        if step.cursor is None:
            result.owners = owners.published()
            continue
        result.add(step)
        if step.cursor == "0":
            return result
        cursor = step.cursor
        if pause:
            time.sleep((time.perf_counter() - started) * pause)

"""Measurement of the time that the windows of each rule need, in a sample of the batches."""

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import redis

from actors.rule_state.windows.redis_windows import RedisWindow
from eventpulse.redis_keys import KEY_PREFIX
from rules.windows.queries import CooldownClaim, Window, WindowResult, WindowUpdate

#: Part of the batches that are measured.
MEASURED_SHARE = 0.01
#: Hashes of window prefix -> measured time in microseconds, and number of events in the measured windows. Both are
#: sums, which the survey of the state halves, so that recent batches count more.
MICROSECONDS = f"{KEY_PREFIX}:rules.cost.microseconds"
EVENTS = f"{KEY_PREFIX}:rules.cost.events"


def sampled_window(client: redis.Redis) -> Window:
    """Return the windows in Redis; for a part of the calls, windows that measure themselves."""
    window = RedisWindow(client)
    is_measured = random.random() < MEASURED_SHARE  # noqa: S311 - protects no secret
    return MeasuredWindow(window, client) if is_measured else window


class MeasuredWindow:
    """Windows in Redis that are updated with one call for each rule or scope, whose time is measured.

    The time of an empty call is subtracted, because the calls of a batch that is not measured share one round trip.
    """

    def __init__(self, window: RedisWindow, client: redis.Redis) -> None:
        self._window = window
        self._client = client

    def observe(self, updates: Sequence[WindowUpdate]) -> list[WindowResult]:
        """Add the members of all updates to their windows and return the results of their queries."""
        positions: dict[str, list[int]] = defaultdict(list)
        for position, update in enumerate(updates):
            positions[update.key.rpartition(":")[0] + ":"].append(position)
        empty_call = self._seconds_of_an_empty_call()
        results: list[WindowResult] = []
        microseconds: dict[str, int] = {}
        for prefix, own in positions.items():
            started = time.perf_counter()
            found = self._window.observe([updates[position] for position in own])
            seconds = time.perf_counter() - started
            microseconds[prefix] = round(max(0.0, seconds - empty_call) * 1e6)
            results += [msgspec.structs.replace(each, position=own[each.position]) for each in found]
        self._record(microseconds, {prefix: _members(updates, own) for prefix, own in positions.items()})
        return results

    def check_cooldowns(self, claims: Sequence[CooldownClaim]) -> list[list[int]]:
        return self._window.check_cooldowns(claims)

    def start_cooldowns(self, claims: Sequence[CooldownClaim]) -> None:
        self._window.start_cooldowns(claims)

    def _seconds_of_an_empty_call(self) -> float:
        started = time.perf_counter()
        self._client.ping()
        return time.perf_counter() - started

    def _record(self, microseconds: dict[str, int], events: dict[str, int]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for prefix, amount in microseconds.items():
                pipeline.hincrby(MICROSECONDS, prefix, amount)
                pipeline.hincrby(EVENTS, prefix, events[prefix])
            pipeline.execute(raise_on_error=False)  # a full Redis rejects the measurement, but not the evaluation


def take_sums(client: redis.Redis) -> tuple[dict[str, int], dict[str, int]]:
    """Return the sums of the microseconds and of the events by window prefix, and halve them.

    Raises `redis.RedisError`.
    """
    with client.pipeline() as pipeline:
        pipeline.hgetall(MICROSECONDS)
        pipeline.hgetall(EVENTS)
        replies: list[dict[bytes, Any]] = pipeline.execute()
    with client.pipeline(transaction=False) as pipeline:
        for key, sums in zip((MICROSECONDS, EVENTS), replies, strict=True):
            for prefix, amount in sums.items():
                pipeline.hincrby(key, prefix, -(int(amount) - int(amount) // 2))
            if finished := [prefix for prefix, amount in sums.items() if int(amount) <= 1]:
                pipeline.hdel(key, *finished)
        pipeline.execute()
    microseconds, events = ({prefix.decode(): int(amount) for prefix, amount in sums.items()} for sums in replies)
    return microseconds, events


def _members(updates: Sequence[WindowUpdate], positions: Sequence[int]) -> int:
    return sum(len(updates[position].members) for position in positions)

"""Windows of rules in Redis, shared by all workers."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import redis

from actors.transport.scripts import LuaScript, run_pipelined
from rules.windows.queries import (
    BucketBaseline,
    CooldownClaim,
    CountWithin,
    NthWithin,
    WindowQuery,
    WindowResult,
    WindowUpdate,
)

FOLDER = Path(__file__).parent
#: Number of members that fill a call. Further updates go to another call, so that a call blocks Redis for about 2 ms.
MEMBERS_PER_CALL = 1_000

_decode_results = msgspec.msgpack.Decoder(list[WindowResult]).decode
_decode_wins = msgspec.msgpack.Decoder(list[list[int]]).decode
_encode = msgspec.msgpack.Encoder().encode


def _script(*names: str) -> LuaScript:
    return LuaScript(*(FOLDER / f"{name}.lua" for name in names))


CHECK_COOLDOWNS = _script("check_cooldowns")
START_COOLDOWNS = _script("prelude", "start_cooldowns")
#: Script for each type of query.
OBSERVE: dict[type[WindowQuery], LuaScript] = {
    NthWithin: _script("prelude", "nth_within"),
    CountWithin: _script("prelude", "count_within"),
    BucketBaseline: _script("prelude", "bucket_baseline"),
}


class RedisWindow:
    """Windows and cooldowns in Redis (see `rules.windows.queries.Window`). Each method makes one round trip.

    All methods raise `redis.RedisError` if Redis is unavailable.
    """

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client

    def observe(self, updates: Sequence[WindowUpdate]) -> list[WindowResult]:
        """Add the members of all updates to their windows and return the results of their queries.

        An update must have at most 2,000 members, because Lua limits the number of arguments of a command.
        """
        calls = [(OBSERVE[query], _encode(list(_messages(part)))) for query, part in _parts(updates)]
        replies = run_pipelined(self._client, calls)
        return [result for reply in replies for result in _with_events(_decode_results(reply))]

    def check_cooldowns(self, claims: Sequence[CooldownClaim]) -> list[list[int]]:
        lists: dict[int, tuple[int, list[Any]]] = {}  # a list that claims share is sent once
        for claim in claims:
            if id(claim.members) not in lists:
                lists[id(claim.members)] = len(lists) + 1, [field for member in claim.members for field in member]
        wanted = [(claim.key, claim.cooldown, lists[id(claim.members)][0]) for claim in claims]
        return _decode_wins(self._run(CHECK_COOLDOWNS, ([events for _, events in lists.values()], wanted)))

    def start_cooldowns(self, claims: Sequence[CooldownClaim]) -> None:
        self._run(START_COOLDOWNS, [(claim.key, claim.past, claim.keep, claim.members) for claim in claims])

    def _run(self, script: LuaScript, argument: Sequence[Any]) -> Any:
        (reply,) = run_pipelined(self._client, [(script, _encode(argument))])
        return reply


def _messages(part: Iterable[tuple[int, WindowUpdate]]) -> Iterator[tuple[Any, ...]]:
    """Yield the argument of a script for each update, without the members' values, which no query uses.

    Members are one flat array, because a Lua table for each member would cost as much as the query itself. A query is
    sent once for consecutive updates with this query, because a query may have a span for each of many rules.
    """
    sent: WindowQuery | None = None
    for position, update in part:
        members = [field for at, event_id, _ in update.members for field in (at, event_id)]
        yield position, (update.key, update.query is not sent and update.query, update.newest, members)
        sent = update.query


def _with_events(results: Iterable[WindowResult]) -> Iterator[WindowResult]:
    """Yield the results; a result without events gets the events of the result before, which a script sends once."""
    events: list[tuple[int, str]] = []
    for result in results:
        events = result.events = result.events or events
        yield result


def _parts(updates: Sequence[WindowUpdate]) -> Iterator[tuple[type[WindowQuery], list[tuple[int, WindowUpdate]]]]:
    """Yield the arguments of each call: a query type, and updates of this type with their positions."""
    parts: dict[type[WindowQuery], list[tuple[int, WindowUpdate]]] = {}
    sizes: dict[type[WindowQuery], int] = {}
    for position, update in enumerate(updates):
        query = type(update.query)
        parts.setdefault(query, []).append((position, update))
        sizes[query] = sizes.get(query, 0) + len(update.members)
        if sizes[query] >= MEMBERS_PER_CALL:
            yield query, parts.pop(query)
            sizes[query] = 0
    yield from parts.items()

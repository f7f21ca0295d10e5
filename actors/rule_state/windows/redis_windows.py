"""The windows of the rules in Redis, shared by all workers: what one adds, all see at once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import redis

from actors.transport.scripts import LuaScript, run_pipelined
from rules.windows.queries import Buckets, CooldownClaim, Count, Run, WindowResult, WindowUpdate

SCRIPTS = Path(__file__).parent
MEMBERS_PER_CALL = 1_000  # Redis serves nobody else during a script: two milliseconds at most

_sightings = msgspec.msgpack.Decoder(list[WindowResult])
_granted = msgspec.msgpack.Decoder(list[list[bool]])
_encode = msgspec.msgpack.Encoder().encode


def _script(*names: str) -> LuaScript:
    return LuaScript(*(SCRIPTS / f"{name}.lua" for name in names))


FREE, CLAIM = _script("free"), _script("retain", "claim")
OBSERVE: dict[type, LuaScript] = {
    Run: _script("retain", "run"),
    Count: _script("retain", "count"),
    Buckets: _script("retain", "buckets"),
}


class RedisWindow:
    """A `rules.windows.queries.Window` in Redis; each call is one round trip. Errors of Redis pass through."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client

    def observe(self, watches: Sequence[WindowUpdate]) -> list[WindowResult]:
        """See `Window`. The events of one watch are at most 2,000: Lua has no room for the arguments of more."""
        replies = run_pipelined(self._client, [(OBSERVE[kind], _encode(part)) for kind, part in _parts(watches)])
        return [sighting for reply in replies for sighting in _sightings.decode(reply)]

    def free(self, claims: Sequence[CooldownClaim]) -> list[list[bool]]:
        (reply,) = run_pipelined(self._client, [(FREE, _encode(claims))])
        return _granted.decode(reply)

    def claim(self, claims: Sequence[CooldownClaim]) -> None:
        run_pipelined(self._client, [(CLAIM, _encode(claims))])


def _parts(watches: Sequence[WindowUpdate]) -> Iterator[tuple[type, list[tuple[int, WindowUpdate]]]]:
    """The watches with their positions, by kind of question, in parts small enough for one call."""
    parts: dict[type, list[tuple[int, WindowUpdate]]] = {}
    sizes: dict[type, int] = {}
    for position, watch in enumerate(watches):
        kind = type(watch.question)
        part = parts.setdefault(kind, [])
        part.append((position, watch))
        sizes[kind] = sizes.get(kind, 0) + len(watch.members)
        if sizes[kind] >= MEMBERS_PER_CALL:
            yield kind, parts.pop(kind)
            sizes[kind] = 0
    yield from parts.items()

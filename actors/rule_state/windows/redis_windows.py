"""The windows of the rules in Redis, shared by all workers: what one adds, all see at once."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import redis
from redis.exceptions import NoScriptError

from rules.windows.queries import Buckets, Claim, Count, Run, Sighting, Watch

SCRIPTS = Path(__file__).parent / "scripts" / "windows"
MEMBERS_PER_CALL = 1_000  # Redis serves nobody else during a script: two milliseconds at most

_sightings = msgspec.msgpack.Decoder(list[Sighting])
_granted = msgspec.msgpack.Decoder(list[list[bool]])
_encode = msgspec.msgpack.Encoder().encode


class _Script:
    """A Lua script, of one file after another, that Redis knows by its SHA-1.

    redis-py's own scripts ask Redis whether it knows them before each pipeline: a second round trip.
    """

    def __init__(self, *names: str) -> None:
        self.text = "".join((SCRIPTS / f"{name}.lua").read_text() for name in names)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


FREE, CLAIM = _Script("free"), _Script("retain", "claim")
OBSERVE: dict[type, _Script] = {
    Run: _Script("retain", "run"),
    Count: _Script("retain", "count"),
    Buckets: _Script("retain", "buckets"),
}


class RedisWindow:
    """A `rules.windows.queries.Window` in Redis; each call is one round trip. Errors of Redis pass through."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client

    def observe(self, watches: Sequence[Watch]) -> list[Sighting]:
        """See `Window`. The events of one watch are at most 2,000: Lua has no room for the arguments of more."""
        replies = self._run([(OBSERVE[kind], _encode(part)) for kind, part in _parts(watches)])
        return [sighting for reply in replies for sighting in _sightings.decode(reply)]

    def free(self, claims: Sequence[Claim]) -> list[list[bool]]:
        (reply,) = self._run([(FREE, _encode(claims))])
        return _granted.decode(reply)

    def claim(self, claims: Sequence[Claim]) -> None:
        self._run([(CLAIM, _encode(claims))])

    def _run(self, calls: Sequence[tuple[_Script, bytes]]) -> list[bytes]:
        try:
            return self._call(calls)
        except NoScriptError:  # a Redis that was restarted: what it did run changes nothing the second time
            for script in {script for script, _ in calls}:
                self._client.script_load(script.text)
            return self._call(calls)

    def _call(self, calls: Sequence[tuple[_Script, bytes]]) -> list[bytes]:
        with self._client.pipeline(transaction=False) as pipeline:
            for script, argument in calls:
                pipeline.evalsha(script.sha, 0, argument)
            return pipeline.execute()


def _parts(watches: Sequence[Watch]) -> Iterator[tuple[type, list[tuple[int, Watch]]]]:
    """The watches with their positions, by kind of question, in parts small enough for one call."""
    parts: dict[type, list[tuple[int, Watch]]] = {}
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

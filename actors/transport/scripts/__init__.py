"""Lua scripts for the steps that must be atomic in Redis. `prelude.lua` documents the keys."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import redis
from redis.exceptions import NoScriptError

FOLDER = Path(__file__).parent
PRELUDE = FOLDER / "prelude.lua"  # prepended to every queue script


class LuaScript:
    """Lua script, concatenated from one or more files and called by its SHA-1 digest.

    The script objects of redis-py are not used: before each pipeline they check whether the script is loaded, which
    takes a second round trip.
    """

    def __init__(self, *paths: Path) -> None:
        self.text = "".join(path.read_text() for path in paths)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: redis.Redis, keys: Sequence[str] = (), args: Sequence[Any] = ()) -> Any:
        """Run the script and return its reply. Raises `redis.RedisError`."""
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:  # Redis was restarted, and no part of the script has run
            client.script_load(self.text)
            return client.evalsha(self.sha, len(keys), *keys, *args)


def run_pipelined(client: redis.Redis, calls: Sequence[tuple[LuaScript, bytes]]) -> list[Any]:
    """Run scripts, each with one argument, in one round trip; return their replies. Raises `redis.RedisError`.

    If one of the scripts is not loaded in Redis, all of them run again, so the scripts must be idempotent.
    """
    try:
        return _run_pipelined(client, calls)
    except NoScriptError:
        for script in {script for script, _ in calls}:
            client.script_load(script.text)
        return _run_pipelined(client, calls)


def _run_pipelined(client: redis.Redis, calls: Sequence[tuple[LuaScript, bytes]]) -> list[Any]:
    with client.pipeline(transaction=False) as pipeline:
        for script, argument in calls:
            pipeline.evalsha(script.sha, 0, argument)
        return pipeline.execute()


def load_queue_scripts() -> dict[str, LuaScript]:
    """Return the queue scripts of this folder, by file name without `.lua`."""
    paths = (path for path in sorted(FOLDER.glob("*.lua")) if path != PRELUDE)
    return {path.stem: LuaScript(PRELUDE, path) for path in paths}


def encode_arguments(arguments: Sequence[Any]) -> bytes:
    """Return the msgpack array that the queue scripts take as their first argument."""
    return msgspec.msgpack.encode([_with_bytes_as_strings(argument) for argument in arguments])


def _with_bytes_as_strings(value: Any) -> Any:
    """Return the value with bytes as msgpack strings, because Redis' decoder does not support msgpack's binary type."""
    if isinstance(value, bytes):
        return msgspec.Raw(b"\xdb%b%b" % (len(value).to_bytes(4, "big"), value))
    if isinstance(value, list | tuple):
        return [_with_bytes_as_strings(item) for item in value]
    return value

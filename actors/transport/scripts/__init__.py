"""The steps that must be atomic, as Lua scripts that run inside Redis; each is headed by the keys that it touches."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoScriptError

FOLDER = Path(__file__).parent
PRELUDE = FOLDER / "prelude.lua"  # functions of every queue script


class LuaScript:
    """A Lua script, made of one file after another, that Redis knows by its SHA-1.

    redis-py's own scripts ask Redis whether it knows them before each pipeline: a second round trip.
    """

    def __init__(self, *paths: Path) -> None:
        self.text = "".join(path.read_text() for path in paths)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: redis.Redis, keys: Sequence[str] = (), args: Sequence[Any] = ()) -> Any:
        """Run the script and return its reply. Raises `redis.RedisError`."""
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:  # Redis was restarted; nothing of the script has run
            client.script_load(self.text)
            return client.evalsha(self.sha, len(keys), *keys, *args)


def run_pipelined(client: redis.Redis, calls: Sequence[tuple[LuaScript, bytes]]) -> list[Any]:
    """Run scripts of one argument each in one round trip; return their replies. Raises `redis.RedisError`.

    After a restart of Redis all of them run again, including those that had run: they must be idempotent.
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
    """Return every queue script of this folder by its name, without `.lua`."""
    paths = (path for path in sorted(FOLDER.glob("*.lua")) if path != PRELUDE)
    return {path.stem: LuaScript(PRELUDE, path) for path in paths}

"""The steps that must be atomic, as Lua scripts that run inside Redis; each is headed by the keys it touches."""

from pathlib import Path
from typing import Any

import redis

FOLDER = Path(__file__).parent
BUNDLE = "bundle"  # what the others know of an entry


def load(client: redis.Redis) -> dict[str, Any]:
    """Every script of this folder by its name, ready to be called with `keys` and `args`."""
    texts = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.lua"))}
    knowledge = texts.pop(BUNDLE)
    return {name: client.register_script(knowledge + text) for name, text in texts.items()}

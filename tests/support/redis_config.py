"""Settings of a running Redis, changed for the duration of a test."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis


@contextmanager
def configured(client: redis.Redis, **values: Any) -> Iterator[None]:
    """Change settings of Redis, and restore them when the block ends. Names are written with `_` instead of `-`."""
    names = {name.replace("_", "-"): value for name, value in values.items()}
    before = {name: client.config_get(name)[name] for name in names}
    try:
        for name, value in names.items():
            client.config_set(name, value)
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)

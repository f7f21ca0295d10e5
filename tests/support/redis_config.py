"""Temporary changes of the settings of a running Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis


@contextmanager
def configured(client: redis.Redis, **values: Any) -> Iterator[None]:
    """Change settings of Redis during the block. The names of keyword arguments have `_` in place of `-`."""
    names = {name.replace("_", "-"): value for name, value in values.items()}
    before = {name: client.config_get(name)[name] for name in names}
    try:
        for name, value in names.items():
            client.config_set(name, value)
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)

"""Validation errors of marshmallow as a flat list."""

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(messages: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field path, text) for each error in the `messages` of a `marshmallow.ValidationError`.

    Dots separate the keys of a path, such as "condition.filters.source". An error of a whole object has the path of
    that object; the path of the outermost object is "".
    """
    if not isinstance(messages, Mapping):
        yield from ((path, str(message)) for message in messages)
        return
    for key, inner in messages.items():
        yield from flatten(inner, path if key == "_schema" else f"{path}.{key}" if path else str(key))

"""One row by the id in its path."""

from http import HTTPStatus
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from api.problems import Problem, invalid
from models.base import Row

R = TypeVar("R", bound=Row)


def find(rows: type[R], identifier: str) -> R:
    """The row with this id. Raises a 400 that names the id when it is no UUID, and a 404 when no row has it."""
    key: Any = rows._meta.primary_key
    try:
        row = rows.get_or_none(key == msgspec.convert(identifier, UUID))
    except msgspec.ValidationError as error:
        raise invalid([{"field": key.name, "message": "must be a UUID"}]) from error
    if row is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"No {rows.__name__.lower()} has this {key.name}")
    return row

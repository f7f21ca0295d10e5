"""Lookup of one row by the id in its path."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar
from uuid import UUID

import msgspec

from api import problems
from models.base import Row

R = TypeVar("R", bound=Row)


def find(model: type[R], path: Mapping[str, str]) -> R:
    """Return the row whose id is the only variable of `path`, for example `{"rule_id": "…"}`.

    Raises `problems.Problem`: 400 that names the variable if the id is not a UUID, 404 if there is no such row.
    """
    ((name, text),) = path.items()
    try:
        row = model.get_or_none(model._meta.primary_key == msgspec.convert(text, UUID))
    except msgspec.ValidationError as error:
        raise problems.invalid([problems.field_error(name, "Must be a UUID.")]) from error
    if row is None:
        raise problems.Problem(HTTPStatus.NOT_FOUND, f"{model.__name__} not found")
    return row

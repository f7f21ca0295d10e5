"""Lookup of one row by the id in the path of a request."""

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

    Raises `problems.Problem`: 400 with the name of the variable if the id is not a UUID, 404 if the row does not exist.
    """
    row = model.get_or_none(model._meta.primary_key == parse_id(path))
    if row is None:
        raise not_found(model.__name__)
    return row


def parse_id(path: Mapping[str, str]) -> UUID:
    """Return the id that is the only variable of `path`.

    Raises `problems.Problem`: 400 with the name of the variable if the id is not a UUID.
    """
    ((name, text),) = path.items()
    try:
        return msgspec.convert(text, UUID)
    except msgspec.ValidationError as error:
        raise problems.invalid([problems.field_error(name, "Must be a UUID.")]) from error


def not_found(name: str) -> problems.Problem:
    """Return a problem with status 404 and a detail such as "Rule not found", where `name` is "Rule"."""
    return problems.Problem(HTTPStatus.NOT_FOUND, f"{name} not found")

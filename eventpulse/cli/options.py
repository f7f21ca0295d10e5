"""Kinds of command-line options that several commands have, checked before anything is done."""

from math import isfinite
from typing import Any
from urllib.parse import urlsplit

import click


class ApiUrl(click.ParamType[str]):
    """Where an API is: http://HOST[:PORT]."""

    name = "url"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parts = urlsplit(value)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            self.fail(f"{value!r} is not the URL of an API, such as http://127.0.0.1:8000", param, ctx)
        return value


class Positive(click.FloatRange):
    """A number above 0 that is one: neither infinite nor NaN, which compare as they like."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value} is not a number to work with", param, ctx)
        return number


def url_option(command: Any) -> Any:
    """`--url`, for every command that talks to a running API."""
    return click.option("--url", type=ApiUrl(), help="Where the API is; by default as the settings say.")(command)

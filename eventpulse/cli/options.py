"""Options that several commands have, and the types of their values."""

import os
import signal
from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from eventpulse.errors import INTERRUPTED

C = TypeVar("C", bound=Callable[..., Any])


class ApiUrl(click.ParamType[str]):
    """The address of an API: http://HOST[:PORT]."""

    name = "url"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parts = urlsplit(value)
            is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid:
            self.fail(f"{value!r} is not the URL of an API, such as http://127.0.0.1:8000", param, ctx)
        return value


class Positive(click.FloatRange):
    """A finite number above 0."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


def url_option(command: C) -> C:
    """Add `--url`, for every command that talks to a running API."""
    return click.option("--url", type=ApiUrl(), help="The URL of the API; by default from the settings.")(command)


def yes_option(command: C) -> C:
    """Add `--yes`, for every command that asks before it changes something."""
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(command)


def dry_run_option(command: C) -> C:
    """Add `--dry-run`, for every command that changes something."""
    return click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing.")(command)


def exit_on_interrupt() -> None:
    """End the process immediately on Ctrl-C, for commands without state to save.

    httpcore hangs if Ctrl-C arrives between acquiring a lock and entering the block that releases it.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))

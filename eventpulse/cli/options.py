"""Options of several commands, and the types of their values."""

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
    """Parameter type for the URL of an API: http://HOST[:PORT]."""

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
    """Parameter type for a finite number above 0."""

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


def url_option(command: C) -> C:
    """Add `--url`, the option of every command that sends requests to the API."""
    return click.option(
        "--url", type=ApiUrl(), help="URL of the API. Default: the address in EVENTPULSE_HOST and EVENTPULSE_PORT."
    )(command)


def yes_option(command: C) -> C:
    """Add `--yes`, the option of every command that asks for confirmation."""
    return click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(command)


def dry_run_option(command: C) -> C:
    """Add `--dry-run`, the option of every command that changes or deletes data."""
    return click.option("--dry-run", is_flag=True, help="Show the changes without making them.")(command)


def exit_on_interrupt() -> None:
    """Make Ctrl-C end the process immediately; for commands that have no state to save.

    httpcore hangs if Ctrl-C arrives between acquiring a lock and entering the block that releases it.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))

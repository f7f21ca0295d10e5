"""`eventpulse check`: the settings as they are, and whether the two servers are fit to keep what is accepted."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click
import redis

from eventpulse import output
from eventpulse.connect import connected_settings
from eventpulse.errors import FINDINGS, OK
from eventpulse.settings import Settings, describe
from models import database, migrations

MAX_SKEW_SECONDS = 5.0  # beyond it, a lease made by one clock runs out too early on another


def run(form: str) -> int:
    """Print the settings, then what is wrong; returns the exit code. Raises `SettingsError`."""
    output.emit([asdict(setting) for setting in describe()], form, ("variable", "value", "source", "meaning"))
    problems = findings(connected_settings("REDIS_URL", "DATABASE_URL"))
    for problem in problems:
        click.echo(f"Finding: {problem}", err=True)
    if not problems:
        click.echo("Redis and PostgreSQL answer, and are fit for use.", err=True)
    return FINDINGS if problems else OK


def findings(settings: Settings) -> list[str]:
    """What is wrong with the servers of `settings`, a line each."""
    return [*_redis_findings(settings), *_postgres_findings(settings)]


def _redis_findings(settings: Settings) -> Iterator[str]:
    assert settings.redis_url is not None
    with redis.Redis.from_url(settings.redis_url, socket_timeout=5, socket_connect_timeout=5) as client:
        info = client.info()
        seconds, microseconds = client.time()
        fsync = _configured(client, "appendfsync")
    if info["maxmemory_policy"] != "noeviction":
        yield f"Redis: maxmemory-policy is {info['maxmemory_policy']}, so a full Redis drops events: set noeviction"
    if not info["aof_enabled"]:
        yield "Redis: appendonly is off, so a restart forgets events: set it to yes, and appendfsync to always"
    elif fsync not in (None, "always"):
        yield f"Redis: appendfsync is {fsync}, so a crash forgets what was confirmed: set it to always"
    skew = abs(time.time() - (seconds + microseconds / 1_000_000))
    if skew > MAX_SKEW_SECONDS:
        yield f"Redis: its clock and ours differ by {skew:.1f} s, more than {MAX_SKEW_SECONDS:.0f} s: synchronize them"


def _configured(client: "redis.Redis", name: str) -> str | None:
    """A setting of Redis; None when its provider does not let us ask."""
    try:
        found: Any = client.config_get(name)
    except redis.ResponseError:
        return None
    return str(found[name])


def _postgres_findings(settings: Settings) -> Iterator[str]:
    assert settings.database_url is not None
    database.configure(settings.database_url, name="eventpulse check")
    pending = [migration.name for migration in migrations.status() if not migration.applied]
    if pending:
        yield f"PostgreSQL: migrations are pending ({', '.join(pending)}): run `eventpulse migrate`"

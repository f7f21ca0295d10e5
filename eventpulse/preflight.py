"""Whether the servers are fit to keep what is accepted: what `eventpulse doctor` and every starting process ask."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg2
import redis
import structlog

from eventpulse.errors import UserError
from eventpulse.masking import masked
from eventpulse.settings import ConnectedSettings

log = structlog.get_logger()

MAX_SKEW_SECONDS = 5.0  # above it, events seem late or early to the rules, and no two logs agree
ROOM = 0.8  # the share of its memory that the backlog may use, unless told otherwise
OLDEST_REDIS = (6, 2)  # BLMOVE, and LPOP of several
TIMEOUT_SECONDS = 5

State = Literal["ok", "warning", "fatal", "unreachable"]


class PreflightError(UserError):
    """A server is set up so that accepted events would be lost; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found. `fatal`: no process of ours starts like this."""

    server: str
    check: str
    state: State
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.server}: {self.check}: {self.found}; {self.remedy}"


def ensure(findings: Iterator[Finding]) -> None:
    """Log what is not as it should be. Raises `PreflightError` on what is fatal; a server that is away will be back."""
    for finding in findings:
        if finding.state == "fatal":
            raise PreflightError(str(finding))
        if finding.state != "ok":
            log.warning("unfit", server=finding.server, check=finding.check, found=finding.found, do=finding.remedy)


def ensure_ready(settings: ConnectedSettings) -> None:
    """See `ensure`; `settings` must have both URLs."""
    ensure(check_redis(settings.redis_url))
    ensure(check_postgres(settings.database_url))


def check_redis(url: str) -> Iterator[Finding]:
    """The checks of the Redis of `url`."""
    try:
        with redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        ) as client:
            info = client.info()
            seconds, microseconds = client.time()
            skew = abs(time.time() - (seconds + microseconds / 1_000_000))
            fsync = _configured(client, "appendfsync")
    except redis.exceptions.NoPermissionError as error:
        remedy = "allow INFO, TIME and CONFIG GET, so that it can be seen whether it is fit"
        yield Finding("Redis", "permissions", "warning", str(error), remedy)
        return
    except redis.RedisError as error:
        yield _away("Redis", error, "REDIS_URL")
        return

    def result(check: str, ok: bool, found: str, remedy: str, otherwise: State = "fatal") -> Finding:
        return Finding("Redis", check, "ok" if ok else otherwise, found, "" if ok else remedy)

    version, policy = str(info.get("redis_version", "not told")), info.get("maxmemory_policy", "not told")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    yield result("version", not numbers or numbers >= OLDEST_REDIS, version, "use 6.2 or newer")
    role = info.get("role", "master")
    yield result("role", role == "master", role, "take its primary: a replica takes no writes", "warning")
    unknown: State = "warning" if policy == "not told" else "fatal"
    keeps = policy == "noeviction"
    yield result("eviction", keeps, f"maxmemory-policy {policy}", "set noeviction: it would drop events", unknown)
    yield result("clock", skew <= MAX_SKEW_SECONDS, f"{skew:.1f} s from ours", "synchronize the machines' clocks")
    logs_writes = bool(info.get("aof_enabled"))
    kept = f"appendonly {'yes' if logs_writes else 'no'}, appendfsync {fsync or 'not told'}"
    durable = logs_writes and fsync in (None, "always")
    remedy = "set appendonly yes and appendfsync always: a crash forgets events that were accepted"
    yield result("durability", durable, kept, remedy, "warning")
    written = info.get("aof_last_write_status", "ok")
    yield result("disk", written == "ok", f"last write {written}", "its log tells why it cannot write", "warning")
    most, used = info.get("maxmemory", 0), info.get("used_memory", 0)
    memory = f"{used >> 20} MiB of {f'{most >> 20} MiB' if most else 'no limit'}"
    unlimited = "set maxmemory: without it the machine runs out of memory before ingest is refused"
    remedy = "ingest is refused until workers have made room, or give it more" if most else unlimited
    yield result("memory", used < most * ROOM, memory, remedy, "warning")


def check_postgres(url: str) -> Iterator[Finding]:
    """The checks of the PostgreSQL of `url`; points this process's models at it."""
    # The API must not import these before gevent has patched its process.
    import peewee

    from models import database, migrations

    try:
        with psycopg2.connect(url, connect_timeout=TIMEOUT_SECONDS) as connection, connection.cursor() as cursor:
            names = ("fsync", "full_page_writes", "synchronous_commit", "transaction_read_only")
            cursor.execute(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
            settings = dict(zip(names, next(cursor), strict=True))
        connection.close()
        database.configure(url, name="eventpulse")
        pending = [migration.name for migration in migrations.status() if not migration.applied]
        database.database.close_all()
    except (psycopg2.Error, peewee.PeeweeException) as error:
        yield _away("PostgreSQL", error, "DATABASE_URL")
        return

    def result(check: str, ok: bool, found: str, remedy: str, otherwise: State = "fatal") -> Finding:
        return Finding("PostgreSQL", check, "ok" if ok else otherwise, found, "" if ok else remedy)

    missing = f"pending: {', '.join(pending)}" if pending else "up to date"
    yield result("schema", not pending, missing, "run `eventpulse migrate`")
    writes = settings.pop("transaction_read_only") == "off"
    yield result("writes", writes, "taken" if writes else "refused", "it is read-only, or a standby", "warning")
    unsafe = [name for name, value in settings.items() if value == "off"]
    found = f"off: {', '.join(unsafe)}" if unsafe else "on"
    yield result("durability", not unsafe, found, "set them on: a crash forgets what was stored", "warning")


def _away(server: str, error: Exception, variable: str) -> Finding:
    reason = masked(" ".join(str(error).split()))
    return Finding(
        server, "answer", "unreachable", f"does not answer as it should ({reason})", f"start it, or correct {variable}"
    )


def _configured(client: "redis.Redis", name: str) -> str | None:
    """A setting of Redis; None when its provider does not let us ask."""
    try:
        found: Any = client.config_get(name)
    except redis.ResponseError:
        return None
    value = found.get(name)
    return None if value is None else str(value)

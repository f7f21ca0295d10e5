"""Preflight checks of Redis and PostgreSQL, for `eventpulse doctor` and at the start of API, worker and scheduler."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import psycopg2
import redis
import structlog

from eventpulse.errors import UserError
from eventpulse.masking import masked
from eventpulse.settings import ConnectedSettings

log = structlog.get_logger()

MAX_CLOCK_SKEW_SECONDS = 5.0  # maximum difference: a larger one could make events too late for their windows
OLDEST_REDIS = (6, 2)  # minimum version: the first one with BLMOVE and with a count for LPOP
TIMEOUT_SECONDS = 5
UNKNOWN = "unknown"

State = Literal["ok", "warning", "fatal", "unreachable"]
#: Function that takes the URL of a database and returns the names of its pending migrations. Raises `psycopg2.Error`.
SchemaState = Callable[[str], list[str]]


class PreflightError(UserError):
    """Raised when a finding is fatal: the process must not start. The message contains the remedy."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check. A process whose preflight checks return a `fatal` finding does not start."""

    server: str
    check: str
    state: State
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.server}: {self.check}: {self.found}; {self.remedy}"


def finding(server: str, check: str, ok: bool, found: str, remedy: str, otherwise: State = "fatal") -> Finding:
    """Return the finding of a check. If `ok` is false, its state is `otherwise`, and it contains the remedy."""
    return Finding(server, check, "ok" if ok else otherwise, found, "" if ok else remedy)


def ensure_ready(settings: ConnectedSettings, schema_state: SchemaState) -> None:
    """Check both servers and log warnings. Raises `PreflightError` if a finding is fatal."""
    ensure(check_redis(settings.redis_url, settings.max_redis_memory_percent))
    ensure(check_postgres(settings.database_url, schema_state))


def ensure(findings: Iterator[Finding]) -> None:
    """Log the findings that are not ok. Raises `PreflightError` for a fatal finding.

    An unavailable server is not fatal: processes wait for it.
    """
    for each in findings:
        if each.state == "fatal":
            raise PreflightError(str(each))
        if each.state != "ok":
            log.warning("preflight_warning", server=each.server, check=each.check, found=each.found, remedy=each.remedy)


def check_redis(url: str, max_memory_percent: int) -> Iterator[Finding]:
    """Yield the findings about the Redis at `url`. Ingest rejects requests above `max_memory_percent` of maxmemory."""
    try:
        state = _redis_state(url)
    except redis.exceptions.NoPermissionError as error:
        remedy = "allow INFO and TIME: without them the configuration cannot be checked"
        yield Finding("Redis", "permissions", "warning", str(error), remedy)
    except redis.RedisError as error:
        yield _unreachable("Redis", error, "REDIS_URL")
    else:
        yield _redis_version(state)
        yield _redis_role(state)
        yield _redis_eviction(state)
        yield _redis_clock(state)
        yield _redis_durability(state)
        yield _redis_disk(state)
        yield _redis_memory(state, max_memory_percent)


@dataclass(frozen=True, slots=True)
class _RedisState:
    """Result of INFO, the clock difference in seconds, and `appendfsync`, which is None if it cannot be read."""

    info: dict[str, Any]
    skew_seconds: float
    appendfsync: str | None


def _redis_state(url: str) -> _RedisState:
    with redis.Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS) as client:
        info: dict[str, Any] = client.info()
        seconds, microseconds = client.time()
        skew = abs(time.time() - (seconds + microseconds / 1_000_000))
        return _RedisState(info, skew, _redis_setting(client, "appendfsync"))


def _redis_setting(client: "redis.Redis", name: str) -> str | None:
    """Return a setting of Redis, or None if the server does not allow CONFIG."""
    try:
        settings: Any = client.config_get(name)
    except redis.ResponseError:
        return None
    value = settings.get(name)
    return None if value is None else str(value)


_redis = partial(finding, "Redis")
_postgres = partial(finding, "PostgreSQL")


def _redis_version(state: _RedisState) -> Finding:
    version = str(state.info.get("redis_version", UNKNOWN))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    return _redis("version", not numbers or numbers >= OLDEST_REDIS, version, "use Redis 6.2 or later")


def _redis_role(state: _RedisState) -> Finding:
    role = state.info.get("role", "master")
    return _redis("role", role == "master", role, "connect to the primary: a replica rejects writes", "warning")


def _redis_eviction(state: _RedisState) -> Finding:
    policy = state.info.get("maxmemory_policy", UNKNOWN)
    remedy = "set noeviction: otherwise Redis deletes events when its memory is full"
    otherwise: State = "warning" if policy == UNKNOWN else "fatal"
    return _redis("eviction", policy == "noeviction", f"maxmemory-policy {policy}", remedy, otherwise)


def _redis_clock(state: _RedisState) -> Finding:
    difference = f"differs by {state.skew_seconds:.1f} s from the clock of this machine"
    return _redis("clock", state.skew_seconds <= MAX_CLOCK_SKEW_SECONDS, difference, "synchronize the machines' clocks")


def _redis_durability(state: _RedisState) -> Finding:
    appends = bool(state.info.get("aof_enabled"))
    settings = f"appendonly {'yes' if appends else 'no'}, appendfsync {state.appendfsync or UNKNOWN}"
    remedy = "set appendonly yes and appendfsync always: otherwise a crash loses accepted events"
    return _redis("durability", appends and state.appendfsync in (None, "always"), settings, remedy, "warning")


def _redis_disk(state: _RedisState) -> Finding:
    status = state.info.get("aof_last_write_status", "ok")
    last_write = f"last write to the append-only file: {status}"
    return _redis("disk", status == "ok", last_write, "see the log of Redis for the reason", "warning")


def _redis_memory(state: _RedisState, max_percent: int) -> Finding:
    limit, used = state.info.get("maxmemory", 0), state.info.get("used_memory", 0)
    if limit:
        memory = f"{used >> 20} MiB of {limit >> 20} MiB used"
        remedy = f"above {max_percent} % ingest rejects requests: wait for the workers, or raise maxmemory"
    else:
        memory = f"{used >> 20} MiB used, maxmemory is not set"
        remedy = "set maxmemory: otherwise the machine may run out of memory before ingest rejects requests"
    return _redis("memory", used < limit * max_percent / 100, memory, remedy, "warning")


def check_postgres(url: str, schema_state: SchemaState) -> Iterator[Finding]:
    """Yield the findings about the PostgreSQL at `url`."""
    try:
        settings = _postgres_settings(url)
        if (session := _postgres_session(settings)).state != "ok":
            yield session
            return
        pending = schema_state(url)
    except psycopg2.Error as error:
        rejected = "unsupported startup parameter" in str(error)
        yield _session(False, "rejected") if rejected else _unreachable("PostgreSQL", error, "DATABASE_URL")
        return
    yield session
    schema = f"pending: {', '.join(pending)}" if pending else "up to date"
    yield _postgres("schema", not pending, schema, "run `eventpulse migrate`")
    writable = settings["transaction_read_only"] == "off"
    accepted = "accepted" if writable else "rejected"
    yield _postgres(
        "writes", writable, accepted, "the server is read-only or a standby: connect to the primary", "warning"
    )
    unsafe = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if settings[name] == "off"]
    off = f"off: {', '.join(unsafe)}" if unsafe else "on"
    yield _postgres(
        "durability", not unsafe, off, "turn these settings on: otherwise a crash loses stored events", "warning"
    )


def _postgres_settings(url: str) -> dict[str, str]:
    """Return settings of a PostgreSQL session with the startup parameter `options`. Raises `psycopg2.Error`."""
    names = ("fsync", "full_page_writes", "synchronous_commit", "transaction_read_only", "statement_timeout")
    start = f"-c statement_timeout={TIMEOUT_SECONDS}s"
    connection = psycopg2.connect(url, connect_timeout=TIMEOUT_SECONDS, options=start)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(f'current_setting({name!r})' for name in names)}")
            return dict(zip(names, next(cursor), strict=True))
    finally:
        connection.close()


def _postgres_session(settings: dict[str, str]) -> Finding:
    kept = settings["statement_timeout"] == f"{TIMEOUT_SECONDS}s"
    return _session(kept, "accepted" if kept else "ignored")


def _session(ok: bool, treated: str) -> Finding:
    """Return the finding about the startup parameter `options`, which PgBouncer rejects or ignores.

    In transaction mode, PgBouncer does not support the advisory lock of the leading scheduler either.
    """
    remedy = (
        "set DATABASE_URL to the address of PostgreSQL itself, or of a pooler in session mode that forwards `options`"
    )
    return _postgres("session", ok, f"the startup parameter `options` is {treated}", remedy)


def _unreachable(server: str, error: Exception, variable: str) -> Finding:
    reason = masked(" ".join(str(error).split()))
    remedy = f"start {server}, or correct {variable}"
    return Finding(server, "connection", "unreachable", f"unavailable ({reason})", remedy)

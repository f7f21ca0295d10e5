"""Settings of a process in one frozen object, read once from the environment and from .env."""
# ruff: noqa: E501, RUF009 - one line for each setting

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import platformdirs
from environs import Env, EnvValidationError, ValidationError, validate

from eventpulse import env_file, machine
from eventpulse.masking import MASK, masked_url

CPU_COUNT = machine.cpu_count()
PREFIX = "EVENTPULSE_"
#: Variables that the settings of a channel may use as a secret, in the form `env:NAME`.
CHANNEL_SECRETS = ("SLACK_WEBHOOK_URL",)


class SettingsError(Exception):
    """Error for invalid or unknown variables, or for an unreadable .env. `problems` has one line for each error."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def default_data_dir() -> Path:
    """Return the default data folder of the embedded servers: in the user's home folder or, for root, in /var/lib."""
    if os.geteuid() == 0:
        return Path("/var/lib/eventpulse")
    return Path(platformdirs.user_data_dir("eventpulse"))


BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _url(*schemes: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        # The error must not contain the value, which may contain a password.
        expected = " or ".join(f"{scheme}://" for scheme in schemes)
        try:
            parts = urlsplit(value)
            scheme, _ = parts.scheme, parts.port
            # With a second @, the end of the password would be parsed as a part of the host, which error messages show.
            if BROKEN_ESCAPE.search(value) or parts.netloc.count("@") > 1:
                raise ValueError
        except ValueError:
            raise ValidationError(
                f"Must be a URL that begins with {expected}. In a password, "
                "write / as %2F, @ as %40, : as %3A and % as %25"
            ) from None
        if scheme not in schemes:
            raise ValidationError(f"Must be a URL that begins with {expected}")

    return check


def _between(low: int, high: int) -> Callable[[int], int]:
    return validate.Range(low, high, error="Must be from {min} to {max}")


def _at_least(low: int) -> Callable[[int], int]:
    return validate.Range(min=low, error="Must be {min} or more")


def _one_of(*choices: str) -> Callable[[str], str]:
    return validate.OneOf(choices, error="Must be one of: {choices}")


def _setting(
    variable: str,
    meaning: str,
    read: Callable[..., Any] = Env.str,
    default: Any = None,
    *,
    validate: Any = None,
    secret: bool = False,
) -> Any:
    metadata = {"variable": variable, "meaning": meaning, "read": read, "validate": validate, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one process, one line for each variable."""

    # fmt: off
    redis_url: str | None = _setting("REDIS_URL", "URL of Redis; if unset, `eventpulse up` starts an embedded Redis", validate=_url("redis", "rediss", "unix"), secret=True)
    database_url: str | None = _setting("DATABASE_URL", "URL of PostgreSQL; if unset, `eventpulse up` starts an embedded PostgreSQL", validate=_url("postgresql", "postgres"), secret=True)
    data_dir: Path = _setting("EVENTPULSE_DATA_DIR", "folder for the data of the embedded servers", Env.path, default_data_dir())
    host: str = _setting("EVENTPULSE_HOST", "host name or IP address that the API and the live gateway listen on", default="127.0.0.1")
    port: int = _setting("EVENTPULSE_PORT", "port of the API", Env.int, 8000, validate=_between(1, 65_535))
    live_port: int = _setting("EVENTPULSE_LIVE_PORT", "port of the live gateway", Env.int, 8001, validate=_between(1, 65_535))
    live_max_clients_per_address: int = _setting("EVENTPULSE_LIVE_MAX_CLIENTS_PER_ADDRESS", "maximum number of clients of the live gateway from one IP address; a reverse proxy counts as one address", Env.int, 50, validate=_at_least(1))
    public_url: str | None = _setting("EVENTPULSE_PUBLIC_URL", "public URL of the API, for the links in alerts", validate=_url("http", "https"))
    api_workers: int = _setting("EVENTPULSE_API_WORKERS", "number of worker processes of the API", Env.int, CPU_COUNT, validate=_at_least(1))
    workers: int = _setting("EVENTPULSE_WORKERS", "number of worker processes that `eventpulse up` starts", Env.int, CPU_COUNT, validate=_at_least(1))
    batch: int = _setting("EVENTPULSE_BATCH", "maximum number of messages that a worker leases as one batch", Env.int, 500, validate=_between(1, 2_000))
    slack_webhook_url: str | None = _setting("SLACK_WEBHOOK_URL", "URL of a Slack webhook; creates a channel that receives alerts of every severity", validate=_url("https", "http"), secret=True)
    event_retention_days: int = _setting("EVENT_RETENTION_DAYS", "number of days to keep events; 0: no limit", Env.int, 30, validate=_at_least(0))
    anomaly_retention_days: int = _setting("ANOMALY_RETENTION_DAYS", "number of days to keep anomalies; 0: no limit", Env.int, 90, validate=_at_least(0))
    dead_letter_retention_days: int = _setting("EVENTPULSE_DEAD_LETTER_RETENTION_DAYS", "number of days to keep dead letters; 0: no limit", Env.int, 90, validate=_at_least(0))
    throughput_retention_days: int = _setting("EVENTPULSE_THROUGHPUT_RETENTION_DAYS", "number of days to keep the throughput per minute; 0: no limit", Env.int, 90, validate=_at_least(0))
    delivery_max_age_hours: int = _setting("EVENTPULSE_DELIVERY_MAX_AGE_HOURS", "age in hours at which an undelivered alert becomes a dead letter", Env.int, 24, validate=_at_least(1))
    max_batch_events: int = _setting("EVENTPULSE_MAX_BATCH_EVENTS", "maximum number of events in one request", Env.int, 1_000, validate=_at_least(1))
    max_body_bytes: int = _setting("EVENTPULSE_MAX_BODY_BYTES", "maximum size of a request body in bytes, after decompression", Env.int, 5 * 1024 * 1024, validate=_at_least(1))
    max_body_bytes_in_flight: int = _setting("EVENTPULSE_MAX_BODY_BYTES_IN_FLIGHT", "maximum size in bytes of all request bodies in an API process, without the first 64 KiB of each", Env.int, 64 * 1024 * 1024, validate=_at_least(1))
    max_event_bytes: int = _setting("EVENTPULSE_MAX_EVENT_BYTES", "maximum size of an event in bytes, as compact JSON", Env.int, 64 * 1024, validate=_at_least(1))
    max_connections_per_address: int = _setting("EVENTPULSE_MAX_CONNECTIONS_PER_ADDRESS", "maximum number of connections from one address to an API process; 0: no limit", Env.int, 500, validate=_at_least(0))
    max_backlog: int = _setting("EVENTPULSE_MAX_BACKLOG", "number of queued messages from which on ingest rejects requests", Env.int, 1_000_000, validate=_at_least(1))
    max_redis_memory_percent: int = _setting("EVENTPULSE_MAX_REDIS_MEMORY_PERCENT", "percentage of the maxmemory of Redis above which ingest rejects requests", Env.int, 80, validate=_between(1, 100))
    max_active_rules: int = _setting("EVENTPULSE_MAX_ACTIVE_RULES", "maximum number of active rules", Env.int, 500, validate=_at_least(1))
    rule_memory_mb: int = _setting("EVENTPULSE_RULE_MEMORY_MB", "MiB of Redis that the windows and cooldowns of a rule may use; a rule above this budget is degraded", Env.int, 64, validate=_at_least(1))
    storm_series_per_minute: int = _setting("EVENTPULSE_STORM_SERIES_PER_MINUTE", "maximum number of anomalies of a rule and group in 60 s; further firings are counted", Env.int, 60, validate=_at_least(1))
    storm_rule_per_minute: int = _setting("EVENTPULSE_STORM_RULE_PER_MINUTE", "maximum number of anomalies of a rule in 60 s; further firings are counted", Env.int, 600, validate=_at_least(1))
    storm_minutes: int = _setting("EVENTPULSE_STORM_MINUTES", "number of minutes after which a storm marks its rule as storming", Env.int, 5, validate=_at_least(1))
    log_level: str = _setting("LOG_LEVEL", "log level: debug, info, warning or error", default="info", validate=_one_of("debug", "info", "warning", "error"))
    log_format: str = _setting("LOG_FORMAT", "log format: json, console, or auto (console on a terminal, otherwise json)", default="auto", validate=_one_of("json", "console", "auto"))
    # fmt: on

    @classmethod
    def from_environ(cls) -> "Settings":
        """Return the settings from the environment and, for variables not set there, from `.env` in the current folder.

        An empty variable counts as unset. Raises `SettingsError`, which names every invalid or unknown variable.
        """
        return cls._read(_Environment())

    def channel_secrets(self) -> dict[str, str | None]:
        """Return the value of each variable in `CHANNEL_SECRETS`; None for an unset variable."""
        values = {item.metadata["variable"]: getattr(self, item.name) for item in fields(Settings)}
        return {variable: values[variable] for variable in CHANNEL_SECRETS}

    @classmethod
    def _read(cls, env: "_Environment") -> "Settings":
        values = {}
        for item in fields(cls):
            about = item.metadata
            options = {"error_messages": {"invalid": "Must be a whole number"}} if about["read"] is Env.int else {}
            values[item.name] = about["read"](
                env, about["variable"], item.default, validate=about["validate"], **options
            )
        problems = _unknown(env.names())
        try:
            env.seal()
        except EnvValidationError as error:
            invalid = cast("Mapping[str, list[str]]", error.error_messages)
            problems += [f"{name}: {' '.join(messages)}" for name, messages in invalid.items()]
        else:
            if values["port"] == values["live_port"]:
                problems.append("EVENTPULSE_LIVE_PORT: Must differ from EVENTPULSE_PORT")
            if values["max_body_bytes_in_flight"] < values["max_body_bytes"]:
                problems.append("EVENTPULSE_MAX_BODY_BYTES_IN_FLIGHT: Must be at least EVENTPULSE_MAX_BODY_BYTES")
        if problems:
            raise SettingsError(sorted(problems))
        values["data_dir"] = values["data_dir"].expanduser().absolute()
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedSettings(Settings):
    """Settings in which the URLs of both servers, external or embedded, are set."""

    redis_url: str = field(repr=False)
    database_url: str = field(repr=False)

    @classmethod
    def of(cls, settings: Settings, redis_url: str, database_url: str) -> "ConnectedSettings":
        """Return the settings with the URLs of both servers."""
        values = {item.name: getattr(settings, item.name) for item in fields(settings)}
        return cls(**values | {"redis_url": redis_url, "database_url": database_url})


@dataclass(frozen=True, slots=True)
class Described:
    """Description of a setting for `eventpulse check`: the value with secrets masked, and the source of the value."""

    variable: str
    value: str
    source: str
    meaning: str


def describe() -> list[Described]:
    """Return every setting with its current value. Raises `SettingsError`."""
    env = _Environment()
    settings = Settings._read(env)
    return [
        Described(about["variable"], _shown(about["variable"], getattr(settings, item.name)), source, about["meaning"])
        for item in fields(Settings)
        for about in [item.metadata]
        for source in [env.source(about["variable"])]
    ]


def _shown(variable: str, value: Any) -> str:
    if value is None:
        return ""
    return MASK if variable in CHANNEL_SECRETS else masked_url(str(value))


class _Environment(Env):
    """Variables of the environment or, if unset there, of `.env`. An empty variable counts as unset."""

    def __init__(self) -> None:
        super().__init__(eager=False)
        try:
            self._environ = env_file.read()
        except (OSError, ValueError) as error:
            raise SettingsError([f".env: cannot be read ({error})"]) from error

    def _get_value(self, env_key: str, default: Any) -> Any:
        return os.environ.get(env_key) or self._environ.get(env_key) or default

    def source(self, variable: str) -> str:
        if os.environ.get(variable):
            return "environment"
        return ".env" if self._environ.get(variable) else "default"

    def names(self) -> set[str]:
        return {*os.environ, *self._environ}


def _unknown(names: set[str]) -> list[str]:
    known = [item.metadata["variable"] for item in fields(Settings)]
    problems = []
    for name in names:
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            problems.append(f"{name}: Unknown setting" + (f"; did you mean {near[0]}?" if near else ""))
    return problems

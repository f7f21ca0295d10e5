"""Every setting in one frozen object, read from the environment once, at the edge of each process."""
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

from eventpulse import machine
from eventpulse.masking import MASK, masked_url

CORES = machine.cpu_count()
PREFIX = "EVENTPULSE_"
#: Variables that a channel may use as a secret: its settings refer to one as `env:NAME`.
CHANNEL_SECRETS = ("SLACK_WEBHOOK_URL",)


class SettingsError(Exception):
    """One or more variables of the environment are wrong; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


def default_data_dir() -> Path:
    """Where the embedded servers keep their data: a folder of the user's, or /var/lib for root.

    PostgreSQL refuses to run as root, so for root it runs as another user, who must reach the
    data: a home folder would have to be opened to everyone for that.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/eventpulse")
    return Path(platformdirs.user_data_dir("eventpulse"))


BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def _url(*schemes: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        # The value may carry a password: say what is wanted, never what was given.
        wanted = " or ".join(f"{scheme}://" for scheme in schemes)
        try:
            parts = urlsplit(value)
            scheme, _ = parts.scheme, parts.port
            # A second @ would make the end of the password a part of the host, which errors name.
            if BROKEN_ESCAPE.search(value) or parts.netloc.count("@") > 1:
                raise ValueError
        except ValueError:
            raise ValidationError(
                f"must be a URL that begins with {wanted}; / @ : and % in a password are written as %2F %40 %3A %25"
            ) from None
        if scheme not in schemes:
            raise ValidationError(f"must be a URL that begins with {wanted}")

    return check


def _between(low: int, high: int) -> Callable[[int], int]:
    return validate.Range(low, high, error="must be from {min} to {max}")


def _at_least(low: int) -> Callable[[int], int]:
    return validate.Range(min=low, error="must be {min} or more")


def _one_of(*choices: str) -> Callable[[str], str]:
    return validate.OneOf(choices, error="must be one of: {choices}")


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
    """What one process needs to know of its surroundings: one line for each variable of the environment."""

    # fmt: off
    redis_url: str | None = _setting("REDIS_URL", "Redis; without it an embedded one is started", validate=_url("redis", "rediss", "unix"), secret=True)
    database_url: str | None = _setting("DATABASE_URL", "PostgreSQL; without it an embedded one is started", validate=_url("postgresql", "postgres"), secret=True)
    data_dir: Path = _setting("EVENTPULSE_DATA_DIR", "where the embedded servers keep their data", Env.path, default_data_dir())
    host: str = _setting("EVENTPULSE_HOST", "address that the API and the live gateway listen on", default="127.0.0.1")
    port: int = _setting("EVENTPULSE_PORT", "port of the API", Env.int, 8000, validate=_between(1, 65_535))
    live_port: int = _setting("EVENTPULSE_LIVE_PORT", "port of the live gateway", Env.int, 8001, validate=_between(1, 65_535))
    public_url: str | None = _setting("EVENTPULSE_PUBLIC_URL", "how people reach the API: the links in alerts", validate=_url("http", "https"))
    api_workers: int = _setting("EVENTPULSE_API_WORKERS", "gunicorn workers", Env.int, CORES, validate=_at_least(1))
    workers: int = _setting("EVENTPULSE_WORKERS", "worker processes under `up`", Env.int, CORES, validate=_at_least(1))
    batch: int = _setting("EVENTPULSE_BATCH", "most messages that a worker takes as one batch", Env.int, 500, validate=_between(1, 2_000))
    slack_webhook_url: str | None = _setting("SLACK_WEBHOOK_URL", "a ready Slack channel for all severities", validate=_url("https", "http"), secret=True)
    event_retention_days: int = _setting("EVENT_RETENTION_DAYS", "days that events are kept; 0: for ever", Env.int, 30, validate=_at_least(0))
    anomaly_retention_days: int = _setting("ANOMALY_RETENTION_DAYS", "days that anomalies are kept; 0: for ever", Env.int, 90, validate=_at_least(0))
    dead_letter_retention_days: int = _setting("EVENTPULSE_DEAD_LETTER_RETENTION_DAYS", "days that dead letters are kept; 0: no limit", Env.int, 90, validate=_at_least(0))
    throughput_retention_days: int = _setting("EVENTPULSE_THROUGHPUT_RETENTION_DAYS", "days that throughput per minute is kept; 0: no limit", Env.int, 90, validate=_at_least(0))
    max_batch_events: int = _setting("EVENTPULSE_MAX_BATCH_EVENTS", "most events in one request", Env.int, 1_000, validate=_at_least(1))
    max_body_bytes: int = _setting("EVENTPULSE_MAX_BODY_BYTES", "largest request body, decompressed", Env.int, 5 * 1024 * 1024, validate=_at_least(1))
    max_event_bytes: int = _setting("EVENTPULSE_MAX_EVENT_BYTES", "largest event, as compact JSON", Env.int, 64 * 1024, validate=_at_least(1))
    max_backlog: int = _setting("EVENTPULSE_MAX_BACKLOG", "queued messages above which ingest answers 503", Env.int, 1_000_000, validate=_at_least(1))
    max_redis_memory_percent: int = _setting("EVENTPULSE_MAX_REDIS_MEMORY_PERCENT", "share of Redis' maxmemory above which ingest answers 503", Env.int, 80, validate=_between(1, 100))
    log_level: str = _setting("LOG_LEVEL", "debug, info, warning or error", default="info", validate=_one_of("debug", "info", "warning", "error"))
    log_format: str = _setting("LOG_FORMAT", "json, console, or auto: console on a terminal", default="auto", validate=_one_of("json", "console", "auto"))
    # fmt: on

    @classmethod
    def from_environ(cls) -> "Settings":
        """Read the environment and, for what it leaves out, the `.env` of the working folder.

        A variable that is empty counts as unset. Raises `SettingsError`, which names every
        variable that is wrong or unknown.
        """
        return cls._read(_Environment())

    def channel_secrets(self) -> dict[str, str | None]:
        """Return the value of each variable in `CHANNEL_SECRETS`; None for an unset one."""
        values = {item.metadata["variable"]: getattr(self, item.name) for item in fields(Settings)}
        return {variable: values[variable] for variable in CHANNEL_SECRETS}

    @classmethod
    def _read(cls, env: "_Environment") -> "Settings":
        values = {}
        for item in fields(cls):
            about = item.metadata
            wanted = {"error_messages": {"invalid": "must be a whole number"}} if about["read"] is Env.int else {}
            values[item.name] = about["read"](
                env, about["variable"], item.default, validate=about["validate"], **wanted
            )
        problems = _unknown(env.names())
        try:
            env.seal()
        except EnvValidationError as error:
            wrong = cast("Mapping[str, list[str]]", error.error_messages)
            problems += [f"{name}: {' '.join(messages)}" for name, messages in wrong.items()]
        else:
            if values["port"] == values["live_port"]:
                problems.append("EVENTPULSE_LIVE_PORT: must differ from EVENTPULSE_PORT")
        if problems:
            raise SettingsError(sorted(problems))
        values["data_dir"] = values["data_dir"].expanduser().absolute()
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedSettings(Settings):
    """Settings whose servers are known: given by the environment, or found as the embedded ones."""

    redis_url: str = field(repr=False)
    database_url: str = field(repr=False)

    @classmethod
    def of(cls, settings: Settings, redis_url: str, database_url: str) -> "ConnectedSettings":
        """Return the settings with the URLs of both servers."""
        values = {item.name: getattr(settings, item.name) for item in fields(settings)}
        return cls(**values | {"redis_url": redis_url, "database_url": database_url})


@dataclass(frozen=True, slots=True)
class Described:
    """One setting for people: its value with secrets masked, and where the value comes from."""

    variable: str
    value: str
    source: str
    meaning: str


def describe() -> list[Described]:
    """Every setting as the environment has it now. Raises `SettingsError`."""
    env = _Environment()
    settings = Settings._read(env)
    return [
        Described(about["variable"], _shown(item.name, getattr(settings, item.name)), source, about["meaning"])
        for item in fields(Settings)
        for about in [item.metadata]
        for source in [env.source(about["variable"])]
    ]


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    return MASK if name == "slack_webhook_url" else masked_url(str(value))


class _Environment(Env):
    """The environment over `.env`, in which an empty variable is an absent one."""

    def __init__(self) -> None:
        super().__init__(eager=False)
        try:
            self.read_env(Path.cwd() / ".env", recurse=False)
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
            problems.append(f"{name}: not a setting of EventPulse" + (f"; did you mean {near[0]}?" if near else ""))
    return problems

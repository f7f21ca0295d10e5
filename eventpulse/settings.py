"""Every setting in one frozen object, read from the environment once, at the edge of each process."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
from environs import Env, EnvValidationError, ValidationError, validate

CORES = os.cpu_count() or 1
PORT = validate.Range(1, 65_535)
POSITIVE = validate.Range(min=1)
NOT_NEGATIVE = validate.Range(min=0)


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


def _url(*schemes: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        try:
            scheme = urlsplit(value).scheme
        except ValueError:
            scheme = ""
        if scheme not in schemes:
            # The value may carry a password: say what is wanted, never what was given.
            raise ValidationError(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")

    return check


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
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """What one process needs to know of its surroundings: one line for each variable of the environment."""

    # fmt: off
    redis_url: str | None = _setting("REDIS_URL", "Redis; without it an embedded one is started", validate=_url("redis", "rediss", "unix"), secret=True)
    database_url: str | None = _setting("DATABASE_URL", "PostgreSQL; without it an embedded one is started", validate=_url("postgresql", "postgres"), secret=True)
    data_dir: Path = _setting("EVENTPULSE_DATA_DIR", "where the embedded servers keep their data", Env.path, default_data_dir())
    host: str = _setting("EVENTPULSE_HOST", "address that the API and the live gateway listen on", default="127.0.0.1")
    port: int = _setting("EVENTPULSE_PORT", "port of the API", Env.int, 8000, validate=PORT)
    live_port: int = _setting("EVENTPULSE_LIVE_PORT", "port of the live gateway", Env.int, 8001, validate=PORT)
    public_url: str | None = _setting("EVENTPULSE_PUBLIC_URL", "how people reach the API: the links in alerts", validate=_url("http", "https"))
    api_workers: int = _setting("EVENTPULSE_API_WORKERS", "gunicorn workers", Env.int, CORES, validate=POSITIVE)
    workers: int = _setting("EVENTPULSE_WORKERS", "worker processes under `up`", Env.int, CORES, validate=POSITIVE)
    batch: int = _setting("EVENTPULSE_BATCH", "most messages that a worker takes as one batch", Env.int, 500, validate=validate.Range(1, 2_000))
    slack_webhook_url: str | None = _setting("SLACK_WEBHOOK_URL", "a ready Slack channel for all severities", validate=_url("https", "http"), secret=True)
    event_retention_days: int = _setting("EVENT_RETENTION_DAYS", "days that events are kept; 0: for ever", Env.int, 30, validate=NOT_NEGATIVE)
    anomaly_retention_days: int = _setting("ANOMALY_RETENTION_DAYS", "days that anomalies are kept; 0: for ever", Env.int, 90, validate=NOT_NEGATIVE)
    max_batch_events: int = _setting("EVENTPULSE_MAX_BATCH_EVENTS", "most events in one request", Env.int, 1_000, validate=POSITIVE)
    max_body_bytes: int = _setting("EVENTPULSE_MAX_BODY_BYTES", "largest request body, decompressed", Env.int, 5 * 1024 * 1024, validate=POSITIVE)
    max_event_bytes: int = _setting("EVENTPULSE_MAX_EVENT_BYTES", "largest event, as compact JSON", Env.int, 64 * 1024, validate=POSITIVE)
    max_backlog: int = _setting("EVENTPULSE_MAX_BACKLOG", "queued messages above which ingest answers 503", Env.int, 1_000_000, validate=POSITIVE)
    max_redis_memory_percent: int = _setting("EVENTPULSE_MAX_REDIS_MEMORY_PERCENT", "share of Redis' maxmemory above which ingest answers 503", Env.int, 80, validate=validate.Range(1, 100))
    log_level: str = _setting("LOG_LEVEL", "debug, info, warning or error", default="info", validate=validate.OneOf(["debug", "info", "warning", "error"]))
    log_format: str = _setting("LOG_FORMAT", "json, console, or auto: console on a terminal", default="auto", validate=validate.OneOf(["json", "console", "auto"]))
    # fmt: on

    @classmethod
    def from_environ(cls) -> "Settings":
        """Read the environment and, for what it leaves out, the `.env` of the working folder.

        Raises `SettingsError`, which names every variable that is wrong or unknown.
        """
        env = Env(eager=False)
        env.read_env(Path.cwd() / ".env", recurse=False)
        values = {}
        for item in fields(cls):
            about = item.metadata
            values[item.name] = about["read"](env, about["variable"], item.default, validate=about["validate"])
        problems = [f"{name}: not a setting of EventPulse" for name in _unknown_variables()]
        try:
            env.seal()
        except EnvValidationError as error:
            problems += [f"{name}: {' '.join(messages)}" for name, messages in error.error_messages.items()]
        if problems:
            raise SettingsError(sorted(problems))
        return cls(**values)


def _unknown_variables() -> set[str]:
    known = {item.metadata["variable"] for item in fields(Settings)}
    return {name for name in os.environ if name.startswith("EVENTPULSE_")} - known

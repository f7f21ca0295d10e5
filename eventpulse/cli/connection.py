"""URLs of the servers that a command uses: from the settings or, if unset, of the servers of `eventpulse up`."""

from eventpulse import ports
from eventpulse.errors import Unreachable
from eventpulse.masking import masked
from eventpulse.settings import ConnectedSettings, Settings


def connected_settings() -> ConnectedSettings:
    """Return the settings with the URLs of Redis and PostgreSQL.

    Raises `SettingsError`, or `Unreachable` if a URL is missing and no `eventpulse up` is running.
    """
    settings = _with_embedded(Settings.from_environ(), "REDIS_URL", "DATABASE_URL")
    return ConnectedSettings.of(settings, str(settings.redis_url), str(settings.database_url))


def redis_settings() -> tuple[Settings, str]:
    """Return the settings and the URL of Redis, for a process without PostgreSQL.

    Raises the same exceptions as `connected_settings`.
    """
    settings = _with_embedded(Settings.from_environ(), "REDIS_URL")
    return settings, str(settings.redis_url)


def database_settings() -> tuple[Settings, str]:
    """Return the settings and the URL of PostgreSQL, for a command without Redis.

    Raises the same exceptions as `connected_settings`.
    """
    settings = _with_embedded(Settings.from_environ(), "DATABASE_URL")
    return settings, str(settings.database_url)


def api_url(url: str | None) -> str:
    """Return `url` without final slashes; for None, the URL of the API on this machine. Raises `SettingsError`."""
    if url is not None:
        return url.rstrip("/")
    settings = Settings.from_environ()
    return f"http://{ports.reachable_host(settings.host)}:{settings.port}"


def explained(error: Exception) -> Unreachable | None:
    """Return the user error for an exception that means that a server is unavailable; None for any other exception."""
    import peewee  # slow to import, and only needed if a command fails
    import psycopg2
    import redis

    from models.database import is_outage

    if isinstance(error, redis.RedisError):  # every error, because a server other than Redis may use this address
        server, variable = "Redis", "REDIS_URL"
    elif isinstance(error, psycopg2.OperationalError) or (
        isinstance(error, peewee.PeeweeException) and is_outage(error)
    ):
        server, variable = "PostgreSQL", "DATABASE_URL"
    else:
        return None
    reason = masked(" ".join(str(error).split()))
    return Unreachable(f"{server} is unavailable ({reason}): start it, or correct {variable}")


def _with_embedded(settings: Settings, *needed: str) -> Settings:
    if _missing(settings, needed):
        from eventpulse.local import embedded  # slow to import, and only needed for embedded servers

        settings = embedded.find(settings)
    if missing := _missing(settings, needed):
        variables = " and ".join(missing)
        raise Unreachable(
            f"`eventpulse up` is not running with the data folder {settings.data_dir}: start it, or set {variables}"
        )
    return settings


def _missing(settings: Settings, needed: tuple[str, ...]) -> list[str]:
    urls = {"REDIS_URL": settings.redis_url, "DATABASE_URL": settings.database_url}
    return [variable for variable in needed if urls[variable] is None]

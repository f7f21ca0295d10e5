"""The servers that a command is to use: those of the environment, or the embedded ones of a running `eventpulse up`."""

from eventpulse.errors import Unreachable
from eventpulse.masking import masked
from eventpulse.settings import Settings


def connected_settings(*needed: str) -> Settings:
    """The settings, with a URL for each of the `needed` variables: REDIS_URL, DATABASE_URL.

    Raises `SettingsError`, or `Unreachable` when one is not given and no `eventpulse up` runs.
    """
    settings = Settings.from_environ()
    urls = {"REDIS_URL": settings.redis_url, "DATABASE_URL": settings.database_url}
    if any(urls[variable] is None for variable in needed):
        from eventpulse.local import embedded  # knows both clients, which are slow to import

        settings = embedded.find(settings)
        urls = {"REDIS_URL": settings.redis_url, "DATABASE_URL": settings.database_url}
    missing = [variable for variable in needed if urls[variable] is None]
    if missing:
        variables = " and ".join(missing)
        raise Unreachable(f"no `eventpulse up` runs on {settings.data_dir}: start it, or set {variables} to your own")
    return settings


def explained(error: Exception) -> Unreachable | None:
    """What a command's exception means, if it means that a server is away."""
    import peewee
    import psycopg2
    import redis

    from models.database import is_outage

    if isinstance(error, redis.RedisError):  # whatever it says: what answers there is not a Redis for us
        server, variable = "Redis", "REDIS_URL"
    elif isinstance(error, psycopg2.OperationalError) or (
        isinstance(error, peewee.PeeweeException) and is_outage(error)
    ):
        server, variable = "PostgreSQL", "DATABASE_URL"
    else:
        return None
    reason = masked(" ".join(str(error).split()))
    return Unreachable(f"{server} does not answer as it should ({reason}): start it, or correct {variable}")

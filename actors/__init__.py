"""What happens to an event after it was accepted. To import this package is to declare every actor."""

from actors import evaluate, ingest, notify, persist
from actors.broker import broker
from actors.transport import SOCKET_TIMEOUT_SECONDS
from eventpulse.settings import Settings
from models import database
from notifiers import registry

__all__ = ["broker", "setup"]

#: In a worker one for each call that may want it at once, and a few spare; in the API for as many requests at once.
DATABASE_CONNECTIONS = 12


def setup(settings: Settings, name: str = "worker", *, redis_timeout_seconds: float = SOCKET_TIMEOUT_SECONDS) -> None:
    """Point queue, database and notifiers at the servers of `settings`, whose URLs must be given; connects nothing."""
    assert settings.redis_url is not None
    assert settings.database_url is not None
    broker.connect(settings.redis_url, redis_timeout_seconds)
    database.configure(settings.database_url, connections=DATABASE_CONNECTIONS, name=f"eventpulse-{name}")
    marks = ingest.HighWaterMarks(settings.max_backlog, settings.max_redis_memory_percent)
    ingest.door = ingest.Door(marks, settings.batch)
    notify.NOTIFIERS = registry.build(broker.client, settings.slack_webhook_url)
    notify.public_url = settings.public_url or f"http://{settings.host}:{settings.port}"
    for actor in (persist.persist, evaluate.evaluate):
        actor.options["batch"] = settings.batch

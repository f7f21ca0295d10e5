"""Objects that the actors of one process share; `setup` creates them once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.broker import broker
from actors.channels.attempts import Attempts
from actors.channels.dispatcher import Dispatcher
from actors.channels.limits import DEFAULT_LIMITS, ChannelLimits
from actors.rule_state.evidence_pauses import EvidencePauses
from actors.rule_state.rulebook import Rulebook
from actors.transport.group_commit import GroupCommit, HighWaterMarks
from actors.transport.redis_broker import SOCKET_TIMEOUT_SECONDS
from eventpulse.settings import ConnectedSettings
from models import database
from notifiers import registry
from notifiers.base import Notifier, TryAgain
from notifiers.http import HttpClient
from notifiers.kind import NotifierContext
from rules.engine.storms import StormCaps

#: Maximum number of connections of one process to PostgreSQL. The API divides them between reads and changes.
#: It must not be less than the number of threads of a worker, because each thread may use a connection.
DATABASE_CONNECTIONS = 12
INGEST_QUEUE = "persist"
#: Queues whose messages count as backlog, in addition to the messages of `INGEST_QUEUE`.
BACKLOG_QUEUES = ("evaluate",)


@dataclass(frozen=True, slots=True)
class Runtime:
    """Shared objects of one process.

    `notifiers` maps a channel kind to its notifier.
    """

    group_commit: GroupCommit
    notifiers: Mapping[str, Notifier]
    dispatcher: Dispatcher
    rulebook: Rulebook
    storm_caps: StormCaps
    evidence_pauses: EvidencePauses

    def notifier(self, kind: str) -> Notifier:
        """Return the notifier of a channel kind.

        Raises `TryAgain` for an unknown kind: a newer version may have created the channel, and a later attempt may run
        on a worker of that version.
        """
        if kind not in self.notifiers:
            raise TryAgain(f"this version does not support channels of the kind {kind}")
        return self.notifiers[kind]


_bound: Runtime | None = None


def connect(
    settings: ConnectedSettings,
    name: str,
    *,
    redis_timeout_seconds: float = SOCKET_TIMEOUT_SECONDS,
    statement_timeout_seconds: int = database.STATEMENT_TIMEOUT_SECONDS,
) -> None:
    """Configure the broker and the models for the servers of `settings`, without opening a connection.

    `name` identifies the process in `pg_stat_activity`.
    """
    broker.connect(settings.redis_url, redis_timeout_seconds)
    broker.batch_size = settings.batch
    database.configure(
        settings.database_url,
        connections=DATABASE_CONNECTIONS,
        name=f"eventpulse-{name}",
        statement_timeout_seconds=statement_timeout_seconds,
    )


def setup(
    settings: ConnectedSettings, name: str = "worker", *, limits: ChannelLimits = DEFAULT_LIMITS, **timeouts: Any
) -> Runtime:
    """Call `connect` with these arguments, then create, bind and return the runtime of this process.

    `limits` are the limits of channels.
    """
    connect(settings, name, **timeouts)
    marks = HighWaterMarks(settings.max_backlog, settings.max_redis_memory_percent)
    http = HttpClient()
    notifiers = registry.build(NotifierContext(broker.client, http, settings.channel_secrets()))
    public_url = (settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")
    runtime = Runtime(
        group_commit=GroupCommit(broker, INGEST_QUEUE, marks, settings.batch, BACKLOG_QUEUES),
        notifiers=notifiers,
        dispatcher=Dispatcher(Attempts(notifiers, public_url, limits), http.submit),
        rulebook=Rulebook(),
        storm_caps=StormCaps(settings.storm_series_per_minute, settings.storm_rule_per_minute),
        evidence_pauses=EvidencePauses(),
    )
    bind(runtime)
    return runtime


def bind(runtime: Runtime) -> None:
    """Set the runtime that `current` returns in this process."""
    global _bound
    _bound = runtime


def current() -> Runtime:
    """Return the runtime of this process. Raises `RuntimeError` before `setup`."""
    if _bound is None:
        raise RuntimeError("actors.runtime.setup() has not been called in this process")
    return _bound

"""State of a running EventPulse, as stored in its Redis and its PostgreSQL."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg2
import psycopg2.extensions
import redis
from chaos.system import AnomalyKey, EventLocations
from redis.backoff import NoBackoff
from redis.retry import Retry

NAMESPACE = "eventpulse"
QUEUES = ("persist", "evaluate", "channels", "notify")
EVENT_ID = re.compile(rb'"event_id":"([0-9a-f-]{36})"')
#: Maximum age in ms of the last heartbeat of a running consumer; heartbeats are sent every second.
LOST_MS = 3_500
#: SQL condition for the audited anomalies: all except those of the rules of `chaos.neighbours`.
AUDITED = "rule_name NOT LIKE 'neighbour %'"
UNAVAILABLE: tuple[type[Exception], ...] = (OSError, redis.RedisError, psycopg2.Error)


class RecordedDelivery(NamedTuple):
    """Columns of one row of the table `deliveries`."""

    anomaly_id: str
    channel_name: str
    status: str
    attempts: int


class RecordedAnomaly(NamedTuple):
    """Recorded anomaly: rule, group as JSON, event, and time in microseconds since the Unix epoch."""

    rule_name: str
    group_key: str
    event_id: str
    at: int

    @property
    def key(self) -> AnomalyKey:
        return self.rule_name, self.group_key, self.event_id


class ExpectedAlert(NamedTuple):
    """Alert that each channel must receive: event, and recording time in seconds since the Unix epoch."""

    event_id: str
    at: float


class Leases:
    """Leases in Redis, which EventPulse and stock Dramatiq store in the same form under different keys.

    `pattern` is the pattern of the lease keys without the namespace; `{queue}` stands for the name of the queue.
    """

    def __init__(self, client: Any, namespace: str, pattern: str) -> None:
        self.client, self.namespace, self.pattern = client, namespace, pattern

    def of(self, queue: str) -> dict[bytes, dict[bytes, list[str]]]:
        """Return the event ids in each leased entry of a queue, by lease key and entry id."""
        leases = {}
        for key in self.client.scan_iter(f"{self.namespace}:{self.pattern.format(queue=queue)}", count=1_000):
            entry_ids = list(self.client.smembers(key))
            data = self.client.hmget(f"{self.namespace}:{queue}.msgs", entry_ids) if entry_ids else []
            leases[key] = {each: ids_in(entry or b"") for each, entry in zip(entry_ids, data, strict=True)}
        return leases

    def entries(self, *queues: str) -> dict[tuple[bytes, bytes], list[str]]:
        """Return the event ids in each leased entry of several queues, by pair of lease key and entry id."""
        leases = [lease for queue in queues for lease in self.of(queue).items()]
        return {(key, each): ids for key, entries in leases for each, ids in entries.items()}


class ServerState:
    """Access to the Redis and PostgreSQL of EventPulse. Methods raise one of the `UNAVAILABLE` errors in an outage."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        self.redis_url, self.database_url = redis_url, database_url
        self.client: Any = redis.Redis.from_url(redis_url, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        self.leases = Leases(self.client, NAMESPACE, "__acks__.{queue}|*")

    @contextmanager
    def sql(self) -> Iterator["psycopg2.extensions.cursor"]:
        """Yield a cursor of a new connection, which can write even while PostgreSQL is read-only by default."""
        options = "-c default_transaction_read_only=off -c timezone=UTC"
        connection = psycopg2.connect(self.database_url, connect_timeout=5, options=options, application_name="chaos")
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.sql() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall()

    def locations(self) -> EventLocations:
        """Return the current locations of the events.

        The locations are read in the order in which events move, so that every event is found at least once.
        """
        lost_entries = set(self.lost_entries())
        in_progress: Counter[str] = Counter()
        stranded: set[str] = set()
        for queue in QUEUES:
            for entry_id, data in self.client.hgetall(f"{NAMESPACE}:{queue}.msgs").items():
                ids = ids_in(data)
                in_progress.update(ids)
                if (queue, entry_id) in lost_entries:
                    stranded.update(ids or [f"{queue} {entry_id.decode(errors='replace')}"])
        dead: set[str] = set()
        for queue in QUEUES:
            for data in self.client.hvals(f"{NAMESPACE}:{queue}.XQ.msgs"):
                dead.update(ids_in(data))
        for event_id, message in self.rows("SELECT event_id::text, message FROM dead_letters"):
            dead.update([event_id] if event_id else ids_in(bytes(message)))
        return EventLocations(Counter(self.column("SELECT event_id::text FROM events")), dead, in_progress, stranded)

    def lost_entries(self) -> Iterator[tuple[str, bytes]]:
        """Yield the queue and the id of each entry that is leased by a consumer without a recent heartbeat."""
        seconds, micros = self.client.time()
        now = seconds * 1000 + micros // 1000
        for key in self.client.scan_iter(f"{NAMESPACE}:__acks__.*", count=1_000):
            lease = key.removeprefix(f"{NAMESPACE}:__acks__.".encode())
            heartbeat = self.client.zscore(f"{NAMESPACE}:__heartbeats__", lease)
            if heartbeat is None or now - heartbeat > LOST_MS:
                queue = lease.partition(b"|")[0].decode()
                yield from ((queue, entry_id) for entry_id in self.client.smembers(key))

    def column(self, query: str) -> list[str]:
        """Return the values of the only column of a query."""
        with self.sql() as cursor:
            cursor.execute(query)
            return [value for (value,) in cursor.fetchall()]

    def evaluations(self) -> Counter[str]:
        """Return the maximum number of anomalies that one rule and group have for an event, by event id."""
        times: Counter[str] = Counter()
        for (_, _, event_id), count in self.anomaly_counts().items():
            times[event_id] = max(times[event_id], count)
        return times

    def anomaly_counts(self) -> Counter[AnomalyKey]:
        """Return the number of recorded anomalies by key; more than 1 is a duplicate."""
        return Counter(self.rows(f"SELECT rule_name, group_key, event_id::text FROM anomalies WHERE {AUDITED}"))

    def anomalies(self) -> list[RecordedAnomaly]:
        """Return the recorded anomalies, ordered by time."""
        query = f"""SELECT rule_name, group_key, event_id::text, (extract(epoch FROM cooldown_anchor) * 1000000)::bigint
                   FROM anomalies WHERE {AUDITED} ORDER BY cooldown_anchor"""
        return [RecordedAnomaly(*row) for row in self.rows(query)]

    def alerts(self) -> dict[str, ExpectedAlert]:
        """Return the expected alerts by anomaly id."""
        columns = "anomaly_id::text, event_id::text, extract(epoch FROM detected_at)::float"
        query = f"SELECT {columns} FROM anomalies WHERE {AUDITED}"
        return {anomaly_id: ExpectedAlert(event_id, at) for anomaly_id, event_id, at in self.rows(query)}

    def unreadable(self) -> int:
        """Return the number of dead letters of unreadable entries."""
        ((count,),) = self.rows("SELECT count(*) FROM dead_letters WHERE actor_name IS NULL")
        return int(count)

    def delayed(self, queue: str) -> int:
        """Return the number of delayed messages of a queue."""
        return int(self.client.zcard(f"{NAMESPACE}:{queue}.delayed"))

    def dead_letter_reasons(self, event_id: str) -> list[str]:
        """Return the error of each dead letter of an event."""
        return [error for (error,) in self.rows("SELECT error FROM dead_letters WHERE event_id = %s", event_id)]

    def stream(self, query: str, size: int = 2_000) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a query in lists of at most `size` rows."""
        connection = psycopg2.connect(self.database_url, connect_timeout=5, options="-c timezone=UTC")
        try:
            with connection.cursor("chaos") as cursor:
                cursor.itersize = size
                cursor.execute(query)
                while rows := cursor.fetchmany(size):
                    yield rows
        finally:
            connection.close()

    def deliveries(self) -> list[RecordedDelivery]:
        """Return the deliveries to Slack webhooks."""
        query = """SELECT anomaly_id::text, channel_name, status, attempts FROM deliveries
                   WHERE channel_id IN (SELECT channel_id FROM channels WHERE kind = 'slack')"""
        return [RecordedDelivery(*row) for row in self.rows(query)]

    def is_idle(self) -> bool:
        """Return whether all queues are empty, all dead letters are in PostgreSQL, and all deliveries are finished."""
        for queue in QUEUES:
            if self.client.exists(f"{NAMESPACE}:{queue}.msgs", f"{NAMESPACE}:{queue}.XQ"):
                return False
        if next(self.client.scan_iter(f"{NAMESPACE}:__acks__.*", count=1_000), None) is not None:
            return False
        unfinished = "SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sending')"
        return self.rows(unfinished) == [(0,)]

    def leased(self) -> set[tuple[bytes, bytes]]:
        """Return the lease key and the entry id of each leased entry."""
        keys = self.client.scan_iter(f"{NAMESPACE}:__acks__.*", count=1_000)
        return {(key, entry_id) for key in keys for entry_id in self.client.smembers(key)}

    def put(self, queue: str, entry_id: str, data: bytes) -> None:
        """Append an entry with these bytes, valid or not, to a queue."""
        pipeline = self.client.pipeline()
        pipeline.hset(f"{NAMESPACE}:{queue}.msgs", entry_id, data)
        pipeline.rpush(f"{NAMESPACE}:{queue}", entry_id)
        pipeline.incr(f"{NAMESPACE}:{queue}.count")
        pipeline.execute()

    def close(self) -> None:
        self.client.close()


def state_of(system: Any) -> Any:
    """Return the object that reads the state of a system's servers: `system.state`, or the system itself."""
    return getattr(system, "state", system)


def ids_in(data: bytes) -> list[str]:
    """Return the event ids in the bytes of an entry, which may be unreadable."""
    return [event_id.decode() for event_id in EVENT_ID.findall(data)]

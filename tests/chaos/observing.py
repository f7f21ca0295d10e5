"""Where EventPulse has its events, seen from outside: in its Redis and its PostgreSQL."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg2
import psycopg2.extensions
import redis
from chaos.system import Found, Holdings
from redis.backoff import NoBackoff
from redis.retry import Retry

NAMESPACE = "eventpulse"
QUEUES = ("persist", "evaluate", "notify")
EVENT_ID = re.compile(rb'"event_id":"([0-9a-f-]{36})"')
#: A consumer calls every second: one that has been silent for so long is dead, or held up.
SILENT_MS = 3_500
AWAY = (OSError, redis.RedisError, psycopg2.Error)


class Delivered(NamedTuple):
    """One announcement, as EventPulse recorded it."""

    anomaly_id: str
    channel_name: str
    status: str
    attempts: int


class Spoken(NamedTuple):
    """One anomaly: its rule, its group as JSON, its event, and when it was, in microseconds since 1970."""

    rule_name: str
    group_key: str
    event_id: str
    at: int

    @property
    def found(self) -> Found:
        return self.rule_name, self.group_key, self.event_id


class Alarm(NamedTuple):
    """What the channels are to be told: the event that set it off, and when it was recorded, in seconds since 1970."""

    event_id: str
    at: float


class Leases:
    """Who has which entries in hand; EventPulse and stock Dramatiq keep them alike, under keys of their own.

    `pattern` finds the keys of the leases of a `{queue}`.
    """

    def __init__(self, client: "redis.Redis", namespace: str, pattern: str) -> None:
        self.client, self.namespace, self.pattern = client, namespace, pattern

    def of(self, queue: str) -> dict[bytes, dict[bytes, list[str]]]:
        """Of each lease its entries, and of each entry the ids of its events; none of what nobody can read."""
        found = {}
        for key in self.client.scan_iter(f"{self.namespace}:{self.pattern.format(queue=queue)}", count=1_000):
            entry_ids = list(self.client.smembers(key))
            data = self.client.hmget(f"{self.namespace}:{queue}.msgs", entry_ids) if entry_ids else []
            found[key] = {each: ids_in(made or b"") for each, made in zip(entry_ids, data, strict=True)}
        return found

    def entries(self, *queues: str) -> dict[tuple[bytes, bytes], list[str]]:
        """The same of several queues, by lease and entry."""
        leases = [lease for queue in queues for lease in self.of(queue).items()]
        return {(key, each): ids for key, entries in leases for each, ids in entries.items()}


class Observed:
    """Both servers of an EventPulse. Every method raises one of `AWAY` while one of them is."""

    def __init__(self, redis_url: str, database_url: str) -> None:
        self.redis_url, self.database_url = redis_url, database_url
        self.client = redis.Redis.from_url(redis_url, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        self.leases = Leases(self.client, NAMESPACE, "__acks__.{queue}|*")

    @contextmanager
    def sql(self) -> Iterator["psycopg2.extensions.cursor"]:
        """A cursor of a connection of its own, which may write whatever the default is."""
        options = "-c default_transaction_read_only=off -c timezone=UTC"
        connection = psycopg2.connect(self.database_url, connect_timeout=5, options=options, application_name="battery")
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

    def holdings(self) -> Holdings:
        """In the order in which events move, so that none is overlooked: queues, dead letters, tables."""
        stranded_entries = set(self.silent_entries())
        underway: Counter[str] = Counter()
        stranded: set[str] = set()
        for queue in QUEUES:
            for entry_id, data in self.client.hgetall(f"{NAMESPACE}:{queue}.msgs").items():
                ids = ids_in(data)
                underway.update(ids)
                if (queue, entry_id) in stranded_entries:
                    stranded.update(ids or [f"{queue} {entry_id.decode(errors='replace')}"])
        dead: set[str] = set()
        for queue in QUEUES:
            for data in self.client.hvals(f"{NAMESPACE}:{queue}.XQ.msgs"):
                dead.update(ids_in(data))
        for event_id, message in self.rows("SELECT event_id::text, message FROM dead_letters"):
            dead.update([event_id] if event_id else ids_in(bytes(message)))
        return Holdings(Counter(self.column("SELECT event_id::text FROM events")), dead, underway, stranded)

    def silent_entries(self) -> Iterator[tuple[str, bytes]]:
        """The queue and the id of each entry whose lease nobody calls for any more."""
        seconds, micros = self.client.time()
        now = seconds * 1000 + micros // 1000
        for key in self.client.scan_iter(f"{NAMESPACE}:__acks__.*", count=1_000):
            lease = key.removeprefix(f"{NAMESPACE}:__acks__.".encode())
            called = self.client.zscore(f"{NAMESPACE}:__heartbeats__", lease)
            if called is None or now - called > SILENT_MS:
                queue = lease.partition(b"|")[0].decode()
                yield from ((queue, entry_id) for entry_id in self.client.smembers(key))

    def column(self, query: str) -> list[str]:
        """The one column of a query, fast."""
        with self.sql() as cursor:
            cursor.execute(query)
            return [value for (value,) in cursor.fetchall()]

    def evaluations(self) -> Counter[str]:
        """How many anomalies of one rule and group each event has brought about."""
        times: Counter[str] = Counter()
        for (_, _, event_id), count in self.findings().items():
            times[event_id] = max(times[event_id], count)
        return times

    def findings(self) -> Counter[Found]:
        return Counter(self.rows("SELECT rule_name, group_key, event_id::text FROM anomalies"))

    def anomalies(self) -> list[Spoken]:
        """All that were recorded, in order of their time."""
        query = """SELECT rule_name, group_key, event_id::text, (extract(epoch FROM cooldown_anchor) * 1000000)::bigint
                   FROM anomalies ORDER BY cooldown_anchor"""
        return [Spoken(*row) for row in self.rows(query)]

    def alarms(self) -> dict[str, Alarm]:
        """Those that were recorded, by what the channels call them."""
        query = "SELECT anomaly_id::text, event_id::text, extract(epoch FROM detected_at)::float FROM anomalies"
        return {anomaly_id: Alarm(event_id, at) for anomaly_id, event_id, at in self.rows(query)}

    def unreadable(self) -> int:
        """How many entries that nobody can read an operator sees."""
        ((count,),) = self.rows("SELECT count(*) FROM dead_letters WHERE actor_name IS NULL")
        return int(count)

    def delayed(self, queue: str) -> int:
        """How many messages wait for their time."""
        return int(self.client.zcard(f"{NAMESPACE}:{queue}.delayed"))

    def reasons(self, event_id: str) -> list[str]:
        """Of each dead letter of an event, why it is one."""
        return [error for (error,) in self.rows("SELECT error FROM dead_letters WHERE event_id = %s", event_id)]

    def stream(self, query: str, at_once: int = 2_000) -> Iterator[list[tuple[Any, ...]]]:
        """The rows of a query, so many at a time."""
        connection = psycopg2.connect(self.database_url, connect_timeout=5, options="-c timezone=UTC")
        try:
            with connection.cursor("battery") as cursor:
                cursor.itersize = at_once
                cursor.execute(query)
                while rows := cursor.fetchmany(at_once):
                    yield rows
        finally:
            connection.close()

    def deliveries(self) -> list[Delivered]:
        """Those of channels that are webhooks."""
        query = """SELECT anomaly_id::text, channel_name, status, attempts FROM deliveries
                   WHERE channel_id IN (SELECT channel_id FROM channels WHERE kind = 'slack')"""
        return [Delivered(*row) for row in self.rows(query)]

    def quiet(self) -> bool:
        """Whether every message was settled, every dead letter stored, and every delivery ended."""
        for queue in QUEUES:
            if self.client.exists(f"{NAMESPACE}:{queue}.msgs", f"{NAMESPACE}:{queue}.XQ"):
                return False
        if next(self.client.scan_iter(f"{NAMESPACE}:__acks__.*", count=1_000), None) is not None:
            return False
        undone = "SELECT count(*) FROM deliveries WHERE status IN ('pending', 'sending')"
        return self.rows(undone) == [(0,)]

    def leased(self) -> set[tuple[bytes, bytes]]:
        """The lease and the id of each entry that is leased by anybody."""
        keys = self.client.scan_iter(f"{NAMESPACE}:__acks__.*", count=1_000)
        return {(key, entry_id) for key in keys for entry_id in self.client.smembers(key)}

    def put(self, queue: str, entry_id: str, data: bytes) -> None:
        """Put an entry into a queue, whatever it is, as somebody else might."""
        pipeline = self.client.pipeline()
        pipeline.hset(f"{NAMESPACE}:{queue}.msgs", entry_id, data)
        pipeline.rpush(f"{NAMESPACE}:{queue}", entry_id)
        pipeline.incr(f"{NAMESPACE}:{queue}.count")
        pipeline.execute()

    def close(self) -> None:
        self.client.close()


def seen(plant: Any) -> Any:
    """What looks into a plant's servers."""
    return getattr(plant, "observed", plant)


def ids_in(data: bytes) -> list[str]:
    """The ids of the events in an entry, as far as it can be read."""
    return [event_id.decode() for event_id in EVENT_ID.findall(data)]

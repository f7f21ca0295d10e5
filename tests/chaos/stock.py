"""Stock Dramatiq as a plant: `stock_app` under gunicorn and Dramatiq's own command line, on servers of its own."""

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
import redis
from chaos.keeping import Keeper, running
from chaos.observing import Alarm, Leases, ids_in
from chaos.ours import START_SECONDS, Through, put_away, set_fsync
from chaos.system import Holdings
from chaos.webhooks import Webhook, webhook
from support.processes import free_ports
from support.waiting import until

from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon

TESTS = Path(__file__).parent.parent
THREADS = 8
TABLES = """
    CREATE TABLE IF NOT EXISTS events (
        event_id uuid PRIMARY KEY, event_type text NOT NULL, source text NOT NULL, timestamp timestamptz NOT NULL,
        payload jsonb NOT NULL, metadata jsonb, received_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE IF NOT EXISTS evaluations (
        event_id uuid NOT NULL, evaluated_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
"""
QUEUES = [queue + suffix for queue in ("persist", "evaluate", "notify") for suffix in ("", ".DQ")]
#: All that Dramatiq keeps of a queue at one moment; see `brokers/redis/dispatch.lua` of Dramatiq.
LOOK = """
    local leased = {}
    for _, key in ipairs(redis.call('KEYS', 'dramatiq:__acks__.*.' .. ARGV[1])) do
        leased[#leased + 1] = { key, redis.call('SMEMBERS', key) }
    end
    local queue = 'dramatiq:' .. ARGV[1]
    return { redis.call('HGETALL', queue .. '.msgs'), redis.call('LRANGE', queue, 0, -1), leased }
"""


class Stock:
    """A running stock Dramatiq. See `Plant`."""

    name = "stock"

    def __init__(self, redis_server: Daemon, postgres: Daemon, folder: Path, environ: Mapping[str, str]) -> None:
        self.redis, self.postgres, self.folder = redis_server, postgres, folder
        self.broker_ids, self.log = folder / "brokers", folder / "processes.log"
        self.broker_ids.mkdir()
        self.environ = {**environ, "BROKER_IDS": str(self.broker_ids), "PYTHONPATH": str(TESTS)}
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}/api/v1"
        self.keepers: dict[str, list[Keeper]] = {"api": [], "worker": []}
        #: The proxy that its processes reach Redis through, if any.
        self.through: Any = None
        self.webhooks: list[Webhook] = []
        self.client = self._redis()
        self.leases = Leases(self.client, "dramatiq", "__acks__.*.{queue}")

    def start(self, workers: int) -> None:
        # fmt: off
        api = ["gunicorn", "battery.stock_app:app", "--bind", f"127.0.0.1:{self._port}", "--worker-class", "gthread",
               "--workers", "1", "--threads", str(THREADS), "--no-control-socket"]
        # fmt: on
        worker = ["dramatiq", "battery.stock_app", "--processes", "1", "--threads", str(THREADS)]
        for unit, command in [("api", api)] + [("worker", worker)] * workers:
            self.keepers[unit].append(Keeper([sys.executable, "-m", *command], self.environ, self.log))
        until(lambda: self._answers() and len(self._living() & self._called()) > workers - 1, START_SECONDS)

    def pids(self, unit: str) -> Sequence[int]:
        found: list[int] = []
        for parent in running(self.keepers[unit]):
            with suppress(psutil.NoSuchProcess):
                found += [each.pid for each in parent.children() if each.status() != psutil.STATUS_ZOMBIE]
        return found

    def stop(self, unit: str, which: int) -> None:
        self.keepers[unit][which % len(self.keepers[unit])].terminate()

    def holdings(self) -> Holdings:
        """In the order in which events move. What a living worker leased and forgot is among those under way."""
        living, underway = self._living(), Counter[str]()
        dead: set[str] = set()
        stranded: set[str] = set()
        with self._redis() as client:
            for queue in QUEUES:
                flat, waiting, leased = client.eval(LOOK, 0, queue)
                listed = set(waiting)
                messages = dict(zip(flat[::2], map(ids_in, flat[1::2]), strict=True))
                held = {entry for key, entries in leased if _holder(key) in living for entry in entries}
                for entry_id, ids in messages.items():
                    underway.update(ids)
                    if entry_id not in held and entry_id not in listed:
                        stranded.update(ids or [f"{queue} {entry_id.decode(errors='replace')}"])
                for data in client.hvals(f"dramatiq:{queue}.XQ.msgs"):
                    dead.update(ids_in(data))
        return Holdings(Counter(dict(self.rows("SELECT event_id::text, 1 FROM events"))), dead, underway, stranded)

    def evaluations(self) -> Mapping[str, int]:
        return dict(self.rows("SELECT event_id::text, count(*) FROM evaluations GROUP BY event_id"))

    def alarms(self) -> dict[str, Alarm]:
        """Those whose event was evaluated, by what the channels call them, which is their event's id."""
        query = """SELECT event_id::text, extract(epoch FROM min(evaluated_at))::float
                   FROM evaluations JOIN events USING (event_id) WHERE payload->>'alarm' = 'true' GROUP BY event_id"""
        return {event_id: Alarm(event_id, at) for event_id, at in self.rows(query)}

    def unreadable(self) -> int:
        """How many entries that nobody can read are among the dead letters."""
        letters = [data for queue in QUEUES for data in self.client.hvals(f"dramatiq:{queue}.XQ.msgs")]
        return sum(not ids_in(data) for data in letters)

    def delayed(self, queue: str) -> int:
        """How many messages wait for their time."""
        return int(self.client.hlen(f"dramatiq:{queue}.DQ.msgs"))

    def reasons(self, event_id: str) -> list[str]:
        """Of each dead letter of an event, why it is one."""
        letters = [data for queue in QUEUES for data in self.client.hvals(f"dramatiq:{queue}.XQ.msgs")]
        return [data.decode() for data in letters if event_id in ids_in(data)]

    def put(self, queue: str, entry_id: str, data: bytes) -> None:
        """Put an entry into a queue, whatever it is, as somebody else might."""
        pipeline = self.client.pipeline()
        pipeline.hset(f"dramatiq:{queue}.msgs", entry_id, data)
        pipeline.rpush(f"dramatiq:{queue}", entry_id)
        pipeline.execute()

    def holders(self, leases: Sequence[bytes]) -> list[int]:
        """The workers that have these leases."""
        ids = {_holder(key) for key in leases}
        files = [self.broker_ids / str(pid) for pid in self.pids("worker")]
        return [int(file.name) for file in files if file.exists() and file.read_text() in ids]

    def quiet(self) -> bool:
        with self._redis() as client:
            return not client.exists(*[f"dramatiq:{queue}.msgs" for queue in QUEUES])

    def tail(self) -> str:
        """The last lines that the processes wrote."""
        return self.log.read_text(errors="replace")[-6_000:] if self.log.exists() else ""

    def end(self) -> None:
        """Stop every process; afterwards nothing of them is left."""
        for keeper in self.keepers["api"] + self.keepers["worker"]:
            keeper.end()
        self.client.close()

    def _redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self.redis.url, socket_timeout=5)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.postgres.url, connect_timeout=5, application_name="battery")
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values or None)
                return cursor.fetchall()
        finally:
            connection.close()

    def _living(self) -> set[str]:
        """The ids under which the worker processes that exist lease; one that is held up has no less than others."""
        files = [self.broker_ids / str(pid) for pid in self.pids("worker")]
        return {file.read_text() for file in files if file.exists()}

    def _called(self) -> set[str]:
        with self._redis() as client:
            return {broker_id.decode() for broker_id in client.zrange("dramatiq:__heartbeats__", 0, -1)}

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.TransportError:
            return False


@contextmanager
def stock(
    fsync: str = "always",
    workers: int = 2,
    through: Through | None = None,
    start_postgres: Callable[[Path], Daemon] = embedded.start_postgres,
) -> Iterator[Stock]:
    """Stock Dramatiq on a Redis with this `appendfsync` and a PostgreSQL of its own, ready.

    `through` makes a proxy of Redis' URL that has a `url` of its own, which the processes use: the plant's `through`.
    Whatever happens, nothing is left of it when the block ends.
    """
    with ExitStack() as undo:
        made = tempfile.TemporaryDirectory(prefix="battery-", ignore_cleanup_errors=True)
        folder = Path(undo.enter_context(made))
        folder.chmod(0o755)  # as root, PostgreSQL runs as another user
        redis_server = embedded.start_redis(folder / "redis")
        undo.callback(put_away, redis_server)
        set_fsync(redis_server, fsync)
        postgres = start_postgres(folder / "postgres")
        undo.callback(put_away, postgres)
        _make_tables(postgres.url)
        proxy = undo.enter_context(through(redis_server.url) if through else nullcontext())
        environ = os.environ | {"REDIS_URL": proxy.url if proxy else redis_server.url, "DATABASE_URL": postgres.url}
        webhooks = [undo.enter_context(webhook(name)) for name in ("first", "second")]
        environ |= {"WEBHOOK_URLS": " ".join(each.url for each in webhooks)}
        plant = Stock(redis_server, postgres, folder, environ)
        plant.webhooks = webhooks
        plant.through = proxy
        undo.callback(plant.end)
        try:
            plant.start(workers)
            yield plant
        except BaseException:
            sys.stderr.write(plant.tail())
            raise


def _make_tables(url: str) -> None:
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLES)
    connection.close()


def _holder(key: bytes) -> str:
    """The worker of `dramatiq:__acks__.<worker>.<queue>`; its id is a UUID."""
    return key.decode().split(".")[1]

"""Stock Dramatiq as a system under test: gunicorn and the Dramatiq command line run `stock_app`."""

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
from chaos.eventpulse_system import START_SECONDS, ProxyFactory, set_fsync, stop_server_process
from chaos.server_state import ExpectedAlert, Leases, ids_in
from chaos.supervised_process import SupervisedProcess, running
from chaos.system import EventLocations
from chaos.webhook import Webhook, webhook
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
#: Lua script that reads the state of a queue atomically; see `brokers/redis/dispatch.lua` of Dramatiq.
READ_QUEUE = """
    local leased = {}
    for _, key in ipairs(redis.call('KEYS', 'dramatiq:__acks__.*.' .. ARGV[1])) do
        leased[#leased + 1] = { key, redis.call('SMEMBERS', key) }
    end
    local queue = 'dramatiq:' .. ARGV[1]
    return { redis.call('HGETALL', queue .. '.msgs'), redis.call('LRANGE', queue, 0, -1), leased }
"""


class StockSystem:
    """Running stock Dramatiq. See `System`."""

    name = "stock"

    def __init__(self, redis_server: Daemon, postgres: Daemon, folder: Path, environ: Mapping[str, str]) -> None:
        self.redis, self.postgres, self.folder = redis_server, postgres, folder
        self.broker_ids, self.log = folder / "brokers", folder / "processes.log"
        self.broker_ids.mkdir()
        self.environ = {**environ, "BROKER_IDS": str(self.broker_ids), "PYTHONPATH": str(TESTS)}
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}/api/v1"
        self.processes: dict[str, list[SupervisedProcess]] = {"api": [], "worker": []}
        #: Proxy between the processes and Redis, or None.
        self.proxy: Any = None
        self.webhooks: list[Webhook] = []
        self.client = self._redis()
        self.leases = Leases(self.client, "dramatiq", "__acks__.*.{queue}")

    def start(self, workers: int) -> None:
        # fmt: off
        api = ["gunicorn", "chaos.stock_app:app", "--bind", f"127.0.0.1:{self._port}", "--worker-class", "gthread",
               "--workers", "1", "--threads", str(THREADS), "--no-control-socket"]
        # fmt: on
        worker = ["dramatiq", "chaos.stock_app", "--processes", "1", "--threads", str(THREADS)]
        for unit, command in [("api", api)] + [("worker", worker)] * workers:
            self.processes[unit].append(SupervisedProcess([sys.executable, "-m", *command], self.environ, self.log))
        until(lambda: self._answers() and len(self._worker_ids() & self._heartbeat_ids()) > workers - 1, START_SECONDS)

    def pids(self, unit: str) -> Sequence[int]:
        pids: list[int] = []
        for parent in running(self.processes[unit]):
            with suppress(psutil.NoSuchProcess):
                pids += [each.pid for each in parent.children() if each.status() != psutil.STATUS_ZOMBIE]
        return pids

    def stop(self, unit: str, which: int) -> None:
        self.processes[unit][which % len(self.processes[unit])].terminate()

    def locations(self) -> EventLocations:
        """Return the current locations of the events.

        Entries that a running worker has leased are not stranded, even if the worker never processes the entries.
        """
        worker_ids, in_progress = self._worker_ids(), Counter[str]()
        dead: set[str] = set()
        stranded: set[str] = set()
        with self._redis() as client:
            for queue in QUEUES:
                flat, waiting, leased = client.eval(READ_QUEUE, 0, queue)
                listed = set(waiting)
                messages = dict(zip(flat[::2], map(ids_in, flat[1::2]), strict=True))
                held = {entry for key, entries in leased if _holder(key) in worker_ids for entry in entries}
                for entry_id, ids in messages.items():
                    in_progress.update(ids)
                    if entry_id not in held and entry_id not in listed:
                        stranded.update(ids or [f"{queue} {entry_id.decode(errors='replace')}"])
                for data in client.hvals(f"dramatiq:{queue}.XQ.msgs"):
                    dead.update(ids_in(data))
        return EventLocations(
            Counter(dict(self.rows("SELECT event_id::text, 1 FROM events"))), dead, in_progress, stranded
        )

    def evaluations(self) -> Mapping[str, int]:
        return dict(self.rows("SELECT event_id::text, count(*) FROM evaluations GROUP BY event_id"))

    def alerts(self) -> dict[str, ExpectedAlert]:
        """Return the expected alerts by event id: one for each evaluated event with an alarm."""
        query = """SELECT event_id::text, extract(epoch FROM min(evaluated_at))::float
                   FROM evaluations JOIN events USING (event_id) WHERE payload->>'alarm' = 'true' GROUP BY event_id"""
        return {event_id: ExpectedAlert(event_id, at) for event_id, at in self.rows(query)}

    def unreadable(self) -> int:
        """Return the number of dead letters of unreadable entries."""
        letters = [data for queue in QUEUES for data in self.client.hvals(f"dramatiq:{queue}.XQ.msgs")]
        return sum(not ids_in(data) for data in letters)

    def delayed(self, queue: str) -> int:
        """Return the number of delayed messages of a queue."""
        return int(self.client.hlen(f"dramatiq:{queue}.DQ.msgs"))

    def dead_letter_reasons(self, event_id: str) -> list[str]:
        """Return the message of each dead letter of an event: Dramatiq stores the error in the message."""
        letters = [data for queue in QUEUES for data in self.client.hvals(f"dramatiq:{queue}.XQ.msgs")]
        return [data.decode() for data in letters if event_id in ids_in(data)]

    def put(self, queue: str, entry_id: str, data: bytes) -> None:
        """Append an entry with these bytes, valid or not, to a queue."""
        pipeline = self.client.pipeline()
        pipeline.hset(f"dramatiq:{queue}.msgs", entry_id, data)
        pipeline.rpush(f"dramatiq:{queue}", entry_id)
        pipeline.execute()

    def holders(self, leases: Sequence[bytes]) -> list[int]:
        """Return the pids of the workers that hold these leases."""
        ids = {_holder(key) for key in leases}
        files = [self.broker_ids / str(pid) for pid in self.pids("worker")]
        return [int(file.name) for file in files if file.exists() and file.read_text() in ids]

    def is_idle(self) -> bool:
        with self._redis() as client:
            return not client.exists(*[f"dramatiq:{queue}.msgs" for queue in QUEUES])

    def tail(self) -> str:
        """Return the last 6,000 characters of the common log of the processes."""
        return self.log.read_text(errors="replace")[-6_000:] if self.log.exists() else ""

    def stop_all(self) -> None:
        """Stop every process and its children."""
        for process in self.processes["api"] + self.processes["worker"]:
            process.stop()
        self.client.close()

    def _redis(self) -> Any:
        return redis.Redis.from_url(self.redis.url, socket_timeout=5)

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        connection = psycopg2.connect(self.postgres.url, connect_timeout=5, application_name="chaos")
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values or None)
                return cursor.fetchall()
        finally:
            connection.close()

    def _worker_ids(self) -> set[str]:
        """Return the broker ids of the worker processes, including suspended processes."""
        files = [self.broker_ids / str(pid) for pid in self.pids("worker")]
        return {file.read_text() for file in files if file.exists()}

    def _heartbeat_ids(self) -> set[str]:
        with self._redis() as client:
            return {broker_id.decode() for broker_id in client.zrange("dramatiq:__heartbeats__", 0, -1)}

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.TransportError:
            return False


@contextmanager
def stock_system(
    fsync: str = "always",
    workers: int = 2,
    proxy_factory: ProxyFactory | None = None,
    start_postgres: Callable[[Path], Daemon] = embedded.start_postgres,
) -> Iterator[StockSystem]:
    """Start stock Dramatiq with its own Redis and PostgreSQL, and yield the system when it is ready.

    `fsync` is the `appendfsync` of Redis. With `proxy_factory`, the processes connect to Redis through `system.proxy`.
    The end of the block stops all processes and deletes all files.
    """
    with ExitStack() as undo:
        temporary = tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)
        folder = Path(undo.enter_context(temporary))
        # If this process is root, PostgreSQL runs as another user, which could not enter a private folder.
        folder.chmod(0o755)
        redis_server = embedded.start_redis(folder / "redis")
        undo.callback(stop_server_process, redis_server)
        set_fsync(redis_server, fsync)
        postgres = start_postgres(folder / "postgres")
        undo.callback(stop_server_process, postgres)
        _make_tables(postgres.url)
        proxy = undo.enter_context(proxy_factory(redis_server.url) if proxy_factory else nullcontext())
        environ = os.environ | {"REDIS_URL": proxy.url if proxy else redis_server.url, "DATABASE_URL": postgres.url}
        webhooks = [undo.enter_context(webhook(name)) for name in ("first", "second")]
        environ |= {"WEBHOOK_URLS": " ".join(each.url for each in webhooks)}
        system = StockSystem(redis_server, postgres, folder, environ)
        system.webhooks = webhooks
        system.proxy = proxy
        undo.callback(system.stop_all)
        try:
            system.start(workers)
            yield system
        except BaseException:
            sys.stderr.write(system.tail())
            raise


def _make_tables(url: str) -> None:
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(TABLES)
    connection.close()


def _holder(key: bytes) -> str:
    """Return the broker id in a lease key, which has the form `dramatiq:__acks__.<broker id>.<queue>`."""
    return key.decode().split(".")[1]

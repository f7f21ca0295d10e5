"""The live gateway: a process of its own that passes anomalies from Redis Pub/Sub on to every open WebSocket.

Apart from the API, so that a hundred open dashboards never take a thread of ingest. A frame is sent once and kept
nowhere: who was away asks `GET /anomalies`.
"""

import asyncio
import contextlib
import errno
import random
import signal
import sys
from collections.abc import AsyncIterator
from http import HTTPStatus
from urllib.parse import urlsplit

import redis
import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from api.live.client import CLOSE_SECONDS, Watcher
from eventpulse.settings import Settings
from notifiers.live import LIVE_CHANNEL

PING_SECONDS = 30.0
#: Frames that may wait for one client; it is dropped when there are more.
CLIENT_FRAMES = 100
MAX_CLIENTS = 1_000
#: Clients have nothing to tell us: this is room for a control frame and for a polite "hello".
MAX_CLIENT_BYTES = 1_024
#: Silence after which Redis is pinged, and once more after which the subscription counts as dead.
REDIS_SILENCE_SECONDS = 5.0
MAX_REDIS_WAIT_SECONDS = 5.0

log = structlog.get_logger()


def run(settings: Settings, redis_url: str) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code: 0 when stopped, 1 when the address cannot be had.

    `settings.redis_url` is given: who starts this knows which Redis it is.
    """
    try:
        asyncio.run(_serve_until_told(settings, redis_url))
    except OSError as error:
        sys.stderr.write(_cannot_listen(settings, error) + "\n")
        return 1
    return 0


async def _serve_until_told(settings: Settings, redis_url: str) -> None:
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with Gateway(redis_url).listening(settings.host, settings.live_port):
        log.info("live_ready", host=settings.host, port=settings.live_port)
        await told.wait()
    log.info("live_stopped")


def _cannot_listen(settings: Settings, error: OSError) -> str:
    address = f"{settings.host}:{settings.live_port}"
    if error.errno == errno.EADDRINUSE:
        return f"{address} is already in use: stop what uses it, or set EVENTPULSE_LIVE_PORT"
    return f"cannot listen on {address} ({error.strerror or error}): set EVENTPULSE_HOST or EVENTPULSE_LIVE_PORT"


class Gateway:
    """One subscription, many clients."""

    def __init__(
        self,
        redis_url: str,
        *,
        ping_seconds: float = PING_SECONDS,
        client_frames: int = CLIENT_FRAMES,
        max_clients: int = MAX_CLIENTS,
        redis_silence_seconds: float = REDIS_SILENCE_SECONDS,
    ) -> None:
        self.subscribed = False
        self._redis_url = redis_url
        self._ping_seconds = ping_seconds
        self._client_frames = client_frames
        self._max_clients = max_clients
        self._redis_silence_seconds = redis_silence_seconds
        self.watchers: set[Watcher] = set()

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[Server]:
        """Accept clients and follow Redis, until the block is left; then clients get the close code 1001."""
        server = await serve(
            self._watch,
            host,
            port,
            process_request=self._answer,
            compression=None,  # frames are small, and a compressor for each client is not
            ping_interval=self._ping_seconds,
            ping_timeout=self._ping_seconds,
            close_timeout=CLOSE_SECONDS,
            max_size=MAX_CLIENT_BYTES,
        )
        try:
            async with asyncio.TaskGroup() as background:
                following = background.create_task(self._follow())
                yield server
                # Again and again: a cancellation that comes together with a time-out of redis-py's is taken for that.
                while not following.done():
                    following.cancel()
                    await asyncio.wait([following], timeout=0.1)
        finally:
            server.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), CLOSE_SECONDS)
            for watcher in self.watchers:
                watcher.cut()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """The answer to a request over plain HTTP; None: go on and open the WebSocket."""
        match request.path.partition("?")[0]:
            case "/ws" if not _from_here(request):
                return connection.respond(HTTPStatus.FORBIDDEN, "Not from a page of another host.\n")
            case "/ws" if len(self.watchers) < self._max_clients:
                return None
            case "/ws":
                return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "There are too many clients.\n")
            case "/livez":
                return connection.respond(HTTPStatus.OK, "ok\n")
            case "/readyz" if self.subscribed:
                return connection.respond(HTTPStatus.OK, "ok\n")
            case "/readyz":
                return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Redis is away.\n")
            case _:
                return connection.respond(HTTPStatus.NOT_FOUND, "There are /ws, /livez and /readyz.\n")

    async def _watch(self, connection: ServerConnection) -> None:
        watcher = Watcher(connection, self._client_frames, stall_seconds=2 * self._ping_seconds)
        self.watchers.add(watcher)
        try:
            await watcher.serve()
        finally:
            self.watchers.discard(watcher)

    async def _follow(self) -> None:
        """Stay subscribed: again and again, for as long as Redis is away."""
        failures = 0
        while True:
            try:
                await self._listen()
            except (redis.RedisError, OSError) as error:
                failures = 1 if self.subscribed else failures + 1
                if failures == 1:
                    log.warning("redis_away", error=type(error).__name__)
            finally:
                self.subscribed = False
            wait = min(0.1 * 2 ** min(failures, 10), MAX_REDIS_WAIT_SECONDS)
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311 — spreads the gateways, guards nothing

    async def _listen(self) -> None:
        """Pass frames on until the subscription breaks; raises what broke it."""
        silence = self._redis_silence_seconds
        client = redis.asyncio.Redis.from_url(
            self._redis_url,
            socket_timeout=silence,
            socket_connect_timeout=silence,
            retry=Retry(NoBackoff(), 0),  # _follow retries, and knows then that it is not subscribed
        )
        async with client, client.pubsub() as subscription:
            await subscription.subscribe(LIVE_CHANNEL)
            pinged = False
            while True:
                message = await subscription.get_message(timeout=silence)
                if message is None:
                    if pinged:
                        raise redis.TimeoutError("the subscription is dead")
                    await subscription.ping()
                    pinged = True
                    continue
                pinged = False
                if message["type"] == "subscribe":
                    self.subscribed = True
                    log.info("subscribed")
                elif message["type"] == "message":
                    for watcher in self.watchers:
                        watcher.offer(message["data"])
                    # A burst comes out of the buffer without a pause: let the clients have theirs.
                    await asyncio.sleep(0)


def _from_here(request: Request) -> bool:
    """Whether no page of another host asks: browsers let every page open a WebSocket anywhere, and say whose it is."""
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).hostname == urlsplit(f"//{request.headers.get('Host', '')}").hostname

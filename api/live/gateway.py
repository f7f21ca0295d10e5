"""Live gateway: a process that forwards anomalies from Redis Pub/Sub to every open WebSocket.

The gateway is separate from the API, so that open dashboards do not slow down ingest. Frames are not stored: a client
that was disconnected reads the missed anomalies with `GET /api/v1/anomalies`.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from http import HTTPStatus

import redis
import redis.asyncio
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from api.live.admission import Admission
from api.live.client import CLOSE_SECONDS, LiveClient
from api.live.connection import LimitedConnection
from eventpulse import ports
from eventpulse.backoff import backoff_seconds
from eventpulse.log_sampler import SamplingFilter
from eventpulse.settings import Settings
from notifiers.live import LIVE_CHANNEL

PING_SECONDS = 30.0
#: Maximum number of frames in the queue of one client; a client with more frames is disconnected.
CLIENT_FRAMES = 100
MAX_CLIENTS = 1_000
MAX_CLIENTS_PER_ADDRESS = 50
#: Maximum size of a message from a client. Control frames are smaller, and other messages are ignored.
MAX_CLIENT_BYTES = 1_024
#: Time without a message after which the gateway pings Redis. If no response arrives within the same time, the
#: subscription is lost.
REDIS_SILENCE_SECONDS = 5.0
#: First and maximum pause between two attempts to subscribe.
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0

log = structlog.get_logger()


def run(settings: Settings, redis_url: str) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    Raises `PortError` if this process cannot listen on the address.
    """
    ports.ensure_free(settings.host, settings.live_port, "EVENTPULSE_LIVE_PORT")
    asyncio.run(_serve_until_stopped(settings, redis_url))
    return 0


async def _serve_until_stopped(settings: Settings, redis_url: str) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    gateway = Gateway(
        redis_url,
        max_clients_per_address=settings.live_max_clients_per_address,
        api_port=settings.port,
        public_url=settings.public_url,
    )
    async with gateway.listening(settings.host, settings.live_port):
        log.info("live_ready", host=settings.host, port=settings.live_port)
        await stopped.wait()
    log.info("live_stopped")


class Gateway:
    """Gateway that subscribes to a channel of Redis and forwards the messages to WebSocket clients.

    `subscribed`: whether the subscription is established.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        ping_seconds: float = PING_SECONDS,
        client_frames: int = CLIENT_FRAMES,
        max_clients: int = MAX_CLIENTS,
        max_clients_per_address: int = MAX_CLIENTS_PER_ADDRESS,
        api_port: int = 0,
        public_url: str | None = None,
        redis_silence_seconds: float = REDIS_SILENCE_SECONDS,
    ) -> None:
        self.subscribed = False
        self._redis_url = redis_url
        self._ping_seconds = ping_seconds
        self._client_frames = client_frames
        self._admission = Admission(max_clients, max_clients_per_address, api_port, public_url)
        self._redis_silence_seconds = redis_silence_seconds
        self.clients: set[LiveClient] = set()

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[Server]:
        """Accept clients and stay subscribed during the block, then close the connections with code 1001."""
        sampling = SamplingFilter()  # asyncio logs each write to a connection that its client has reset
        logging.getLogger("asyncio").addFilter(sampling)
        server = await serve(
            self._serve_client,
            host,
            port,
            process_request=self._check_request,
            create_connection=LimitedConnection,
            compression=None,  # frames are small, and a compressor for each client needs much memory
            ping_interval=self._ping_seconds,
            ping_timeout=self._ping_seconds,
            close_timeout=CLOSE_SECONDS,
            max_size=MAX_CLIENT_BYTES,
        )
        try:
            async with asyncio.TaskGroup() as background:
                subscription = background.create_task(self._stay_subscribed())
                yield server
                # Cancel repeatedly, because redis-py may discard a cancellation that coincides with a timeout.
                while not subscription.done():
                    subscription.cancel()
                    await asyncio.wait([subscription], timeout=0.1)
        finally:
            server.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), CLOSE_SECONDS)
            for client in self.clients:
                client.abort()
            logging.getLogger("asyncio").removeFilter(sampling)

    def _check_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Return the response to an HTTP request, or None to open a WebSocket."""
        match request.path.partition("?")[0]:
            case "/ws":
                return self._admission.admit(connection, request)
            case "/livez":
                return connection.respond(HTTPStatus.OK, "ok\n")
            case "/readyz" if self.subscribed:
                return connection.respond(HTTPStatus.OK, "ok\n")
            case "/readyz":
                return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "Redis is unavailable.\n")
            case _:
                return connection.respond(HTTPStatus.NOT_FOUND, "Not found; the paths are /ws, /livez and /readyz.\n")

    async def _serve_client(self, connection: ServerConnection) -> None:
        client = LiveClient(connection, self._client_frames, stall_seconds=2 * self._ping_seconds)
        self.clients.add(client)
        try:
            await client.serve()
        finally:
            self.clients.discard(client)

    async def _stay_subscribed(self) -> None:
        """Subscribe to Redis, and subscribe again whenever the subscription is lost."""
        failures = 0
        while True:
            try:
                await self._forward()
            except (redis.RedisError, OSError) as error:
                failures = 1 if self.subscribed else failures + 1
                if failures == 1:
                    log.warning("redis_unavailable", error=type(error).__name__)
            finally:
                self.subscribed = False
            await asyncio.sleep(backoff_seconds(failures, FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS))

    async def _forward(self) -> None:
        """Subscribe to Redis and forward frames to the clients.

        Raises `redis.RedisError` or `OSError` if the subscription fails or is lost.
        """
        silence = self._redis_silence_seconds
        redis_client = redis.asyncio.Redis.from_url(
            self._redis_url,
            socket_timeout=silence,
            socket_connect_timeout=silence,
            retry=Retry(NoBackoff(), 0),  # retries by redis-py would hide that the subscription is lost
        )
        async with redis_client, redis_client.pubsub() as subscription:
            await subscription.subscribe(LIVE_CHANNEL)
            pinged = False
            while True:
                message = await subscription.get_message(timeout=silence)
                if message is None:
                    if pinged:
                        raise redis.TimeoutError("the subscription is lost")
                    await subscription.ping()
                    pinged = True
                    continue
                pinged = False
                if message["type"] == "subscribe":
                    self.subscribed = True
                    log.info("live_subscribed")
                elif message["type"] == "message":
                    for client in self.clients:
                        client.enqueue(message["data"])
                    # Let other tasks send: redis-py returns a burst of messages without yielding to the event loop.
                    await asyncio.sleep(0)

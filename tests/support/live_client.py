"""Live gateway and WebSocket clients for tests."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import redis.asyncio
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from api.live.gateway import Gateway
from notifiers.live import LIVE_CHANNEL

SECONDS = 10.0


@contextlib.asynccontextmanager
async def running_gateway(redis_url: str, **options: Any) -> AsyncIterator[tuple[Gateway, str]]:
    """Run a gateway during the block; after its subscription to Redis, yield the gateway and its `host:port`."""
    gateway = Gateway(redis_url, **options)
    async with gateway.listening("127.0.0.1", 0) as server:
        await until(lambda: gateway.subscribed)
        yield gateway, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def publisher(redis_url: str) -> AsyncIterator[Callable[..., Awaitable[object]]]:
    """Yield a function that publishes frames on the live channel in one pipeline."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:

        async def publish(*frames: str) -> None:
            async with client.pipeline(transaction=False) as pipeline:
                for frame in frames:
                    pipeline.publish(LIVE_CHANNEL, frame)
                await pipeline.execute()

        yield publish


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true. Raises `TimeoutError` after `SECONDS`."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


async def receive(client: ClientConnection) -> str:
    """Return the next frame that the client receives. Raises `TimeoutError` after `SECONDS`."""
    return str(await asyncio.wait_for(client.recv(), SECONDS))


async def wait_closed(client: ClientConnection) -> tuple[int | None, str | None]:
    """Receive frames until the connection is closed; return the close code and the close reason.

    Raises `TimeoutError` after `SECONDS`.
    """
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(SECONDS):
            while True:
                await client.recv()
    return client.close_code, client.close_reason


async def get_status(address: str, path: str) -> int:
    """Return the status of the response to a GET request. Raises `TimeoutError` after `SECONDS`."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    line = await asyncio.wait_for(reader.readline(), SECONDS)
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


@contextlib.asynccontextmanager
async def stalled_client(address: str) -> AsyncIterator[socket.socket]:
    """Open a WebSocket and yield the socket of its client, which reads nothing and does not respond to pings."""
    host, _, port = address.partition(":")
    with socket.socket() as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (host, int(port)))
        request = (
            f"GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await loop.sock_sendall(client, request.encode())
        yield client

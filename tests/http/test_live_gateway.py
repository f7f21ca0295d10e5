"""Tests of the live gateway with real clients and a real Redis: many clients, slow clients, and outages."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live_client import (
    SECONDS,
    get_status,
    publisher,
    receive,
    running_gateway,
    stalled_client,
    until,
    wait_closed,
)
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon

LARGE = "x" * 200_000
BUFFERS = 20_000_000  # bytes; more than the socket buffers of a connection can hold


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Daemon]:
    """Start a Redis server that the test may stop."""
    server = embedded.start_redis(tmp_path / "redis")
    yield server
    server.stop()


def test_a_frame_reaches_a_hundred_clients_unchanged(redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            running_gateway(redis_url) as (_, address),
            publisher(redis_url) as publish,
            contextlib.AsyncExitStack() as stack,
        ):
            clients = [await stack.enter_async_context(connect(f"ws://{address}/ws")) for _ in range(100)]
            await publish('{"type":"anomaly","message":"přetížení"}')
            assert await asyncio.gather(*map(receive, clients)) == ['{"type":"anomaly","message":"přetížení"}'] * 100

    asyncio.run(scenario())


def test_a_burst_larger_than_the_queue_reaches_clients_that_read(redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            running_gateway(redis_url, client_frames=5) as (_, address),
            publisher(redis_url) as publish,
            connect(f"ws://{address}/ws") as client,
        ):
            frames = [f"frame {number}" for number in range(500)]
            await publish(*frames)
            assert [await receive(client) for _ in frames] == frames

    asyncio.run(scenario())


def test_messages_from_clients_are_ignored_and_long_ones_close_the_connection(redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            running_gateway(redis_url) as (_, address),
            publisher(redis_url) as publish,
            connect(f"ws://{address}/ws") as client,
            connect(f"ws://{address}/ws") as talker,
        ):
            for _ in range(100):
                await client.send("hello")
            await talker.send("x" * 10_000)
            assert (await wait_closed(talker))[0] == 1009
            await publish("frame")
            assert await receive(client) == "frame"

    asyncio.run(scenario())


def test_a_slow_client_is_disconnected_and_delays_no_other_client(redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            running_gateway(redis_url, client_frames=20) as (_, address),
            publisher(redis_url) as publish,
            connect(f"ws://{address}/ws", max_queue=1) as slow,
            connect(f"ws://{address}/ws") as quick,
        ):
            for _ in range(BUFFERS // len(LARGE)):
                await publish(LARGE)
                assert await receive(quick) == LARGE
            assert await wait_closed(slow) == (1013, "client too slow to receive frames")
            assert quick.close_code is None

    asyncio.run(scenario())


def test_a_stalled_client_is_disconnected_before_its_queue_is_full(redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            running_gateway(redis_url, ping_seconds=0.2) as (gateway, address),
            publisher(redis_url) as publish,
            stalled_client(address),
        ):
            await until(lambda: len(gateway.clients) == 1)
            await publish("x" * BUFFERS)
            await until(lambda: len(gateway.clients) == 0)

    asyncio.run(scenario())


def test_a_client_without_pongs_is_disconnected(redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            running_gateway(redis_url, ping_seconds=0.1) as (gateway, address),
            stalled_client(address) as client,
        ):
            everything = b""
            async with asyncio.timeout(SECONDS):
                while data := await asyncio.get_running_loop().sock_recv(client, 4096):
                    everything += data
            assert everything.startswith(b"HTTP/1.1 101 ")
            assert b"keepalive ping timeout" in everything
            await until(lambda: not gateway.clients)

    asyncio.run(scenario())


def test_a_client_that_answers_pings_stays_connected(redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            running_gateway(redis_url, ping_seconds=0.1) as (gateway, address),
            connect(f"ws://{address}/ws", ping_interval=None) as client,
        ):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.recv(), 0.5)
            assert len(gateway.clients) == 1

    asyncio.run(scenario())


def test_frames_are_forwarded_after_a_restart_of_redis(own_redis: Daemon) -> None:
    async def scenario() -> None:
        async with running_gateway(own_redis.url) as (gateway, address), connect(f"ws://{address}/ws") as client:
            assert await get_status(address, "/readyz") == 200
            own_redis.stop()
            await until(lambda: not gateway.subscribed)
            assert await get_status(address, "/readyz") == 503
            assert await get_status(address, "/livez") == 200
            own_redis.start()
            await until(lambda: gateway.subscribed)
            async with publisher(own_redis.url) as publish:
                await publish("frame")
            assert await receive(client) == "frame"

    asyncio.run(scenario())


def test_a_subscription_to_a_redis_that_hangs_is_renewed(own_redis: Daemon) -> None:
    async def scenario() -> None:
        async with (
            running_gateway(own_redis.url, redis_silence_seconds=0.1) as (gateway, address),
            connect(f"ws://{address}/ws") as client,
        ):
            os.kill(own_redis.pid, signal.SIGSTOP)
            try:
                await until(lambda: not gateway.subscribed)
            finally:
                os.kill(own_redis.pid, signal.SIGCONT)
            await until(lambda: gateway.subscribed)
            async with publisher(own_redis.url) as publish:
                await publish("frame")
            assert await receive(client) == "frame"

    asyncio.run(scenario())


def test_a_subscription_without_messages_is_kept(redis_url: str) -> None:
    async def scenario() -> None:
        async with running_gateway(redis_url, redis_silence_seconds=0.05) as (gateway, _):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(until(lambda: not gateway.subscribed), 0.5)

    asyncio.run(scenario())


def test_unknown_paths_and_too_many_clients_are_rejected(redis_url: str) -> None:
    async def scenario() -> None:
        async with running_gateway(redis_url, max_clients=1) as (_, address), connect(f"ws://{address}/ws?from=here"):
            for path, expected in [("/livez", 200), ("/readyz", 200), ("/", 404), ("//[", 404), ("/ws", 503)]:
                assert await get_status(address, path) == expected, path
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://{address}/ws")
            assert caught.value.response.status_code == 503

    asyncio.run(scenario())


def test_a_stopping_gateway_closes_its_clients_and_aborts_a_stalled_one(redis_url: str) -> None:
    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as clients:
            async with running_gateway(redis_url) as (gateway, address), publisher(redis_url) as publish:
                client = await clients.enter_async_context(connect(f"ws://{address}/ws", max_size=None))
                await clients.enter_async_context(stalled_client(address))
                await until(lambda: len(gateway.clients) == 2)
                await publish("x" * BUFFERS)
                assert len(await receive(client)) == BUFFERS
                began = asyncio.get_running_loop().time()
            assert asyncio.get_running_loop().time() - began < 5
            assert (await wait_closed(client))[0] == 1001
            await until(lambda: not gateway.clients)

    asyncio.run(scenario())


def test_a_cross_origin_connection_is_rejected(redis_url: str) -> None:
    async def scenario() -> None:
        async with running_gateway(redis_url) as (_, address):
            async with connect(f"ws://{address}/ws", origin=f"http://{address}"):  # type: ignore[arg-type]
                pass
            with pytest.raises(InvalidStatus) as rejected:
                await connect(f"ws://{address}/ws", origin="https://evil.example")  # type: ignore[arg-type]
            assert rejected.value.response.status_code == 403

    asyncio.run(scenario())

"""Tests of the live gateway with real clients and a real Redis: many clients, slow clients, and outages."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from api.client_address import address_group
from api.live.connection import MAX_FRAMES
from eventpulse.local import embedded
from eventpulse.local.daemon import Daemon
from eventpulse.log_sampler import LINES

LARGE = "x" * 200_000
PING = b"\x89\x80\0\0\0\0"
RESET = struct.pack("ii", 1, 0)  # value of SO_LINGER: closing the socket resets the connection
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
            running_gateway(redis_url, max_clients_per_address=100) as (_, address),
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
            for origin in ("https://evil.example", "http://127.0.0.1:9999", "http://127.0.0.1", "null"):
                assert await rejected(address, origin=origin) == 403, origin

    asyncio.run(scenario())


def test_pages_of_the_api_and_of_the_public_url_may_connect(redis_url: str) -> None:
    async def scenario() -> None:
        public_url = "https://pulse.example.com"
        async with running_gateway(redis_url, api_port=8000, public_url=public_url) as (_, address):
            for origin in ("http://127.0.0.1:8000", public_url):
                async with connect(f"ws://{address}/ws", origin=origin):  # type: ignore[arg-type]
                    pass
            assert await rejected(address, origin="http://pulse.example.com") == 403

    asyncio.run(scenario())


def test_a_request_with_several_origins_is_rejected_without_an_error(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running_gateway(redis_url) as (_, address):
            headers = [("Origin", f"http://{address}"), ("Origin", "https://evil.example")]
            assert await rejected(address, additional_headers=headers) == 403

    asyncio.run(scenario())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def rejected(address: str, **options: Any) -> int:
    """Return the status with which the gateway rejects a client."""
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"ws://{address}/ws", **options)
    return caught.value.response.status_code


def test_one_address_cannot_take_all_places_and_places_become_free(redis_url: str) -> None:
    async def scenario() -> None:
        async with (
            running_gateway(redis_url, max_clients_per_address=3) as (_, address),
            contextlib.AsyncExitStack() as stack,
        ):
            attempts = await asyncio.gather(*(connect(f"ws://{address}/ws") for _ in range(20)), return_exceptions=True)
            clients = [attempt for attempt in attempts if isinstance(attempt, ClientConnection)]
            assert len(clients) == 3
            statuses = {error.response.status_code for error in attempts if isinstance(error, InvalidStatus)}
            assert statuses == {429}
            port = int(address.rpartition(":")[2])
            other = connect(f"ws://{address}/ws", host="127.0.0.1", port=port, local_addr=("127.0.0.2", 0))
            await stack.enter_async_context(other)
            await clients[0].close()
            clients[1].transport.abort()
            for _ in range(2):
                await until_connected(address, stack)
            assert await rejected(address) == 429

    asyncio.run(scenario())


async def until_connected(address: str, stack: contextlib.AsyncExitStack) -> None:
    """Connect a client until the end of `stack`; the gateway releases the place of a lost client with a delay."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                await stack.enter_async_context(connect(f"ws://{address}/ws"))
            except InvalidStatus:
                await asyncio.sleep(0.01)
            else:
                return


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_clients_are_counted_by_ipv4_address_and_by_ipv6_network(address: str, group: str) -> None:
    assert address_group(address) == group


def test_a_flood_of_pings_ends_the_connection_and_causes_few_log_lines(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with running_gateway(redis_url) as (gateway, address), connect(f"ws://{address}/ws") as quiet:
            for _ in range(3):
                async with stalled_client(address) as flooding:
                    await until(lambda: len(gateway.clients) == 2)
                    flooding.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    await loop.sock_sendall(flooding, PING * 20_000)
                await until(lambda: len(gateway.clients) == 1)
            async with stalled_client(address) as slow:
                await until(lambda: len(gateway.clients) == 2)
                await loop.sock_sendall(slow, PING * (MAX_FRAMES + 1))
                await until(lambda: len(gateway.clients) == 1)
            assert quiet.close_code is None

    asyncio.run(scenario())
    assert len(caplog.records) <= 3 * LINES

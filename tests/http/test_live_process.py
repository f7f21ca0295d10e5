"""Tests of the process of the live gateway: errors at the start, and the stop."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from support.waiting import until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from api.live import gateway
from eventpulse.ports import PortError
from eventpulse.settings import Settings

PROGRAM = """
import sys
from api.live import gateway
from eventpulse.settings import Settings
sys.exit(gateway.run(Settings(live_port=int(sys.argv[2])), sys.argv[1]))
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def process(redis_url: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", PROGRAM, redis_url, str(port)])

    def ready() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        return False

    until(ready, 30)
    yield child
    child.kill()
    child.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_gateway_closes_its_clients_with_code_1001(
    process: subprocess.Popen[bytes], port: int, number: signal.Signals
) -> None:
    async def scenario() -> int | None:
        async with connect(f"ws://127.0.0.1:{port}/ws") as client:
            os.kill(process.pid, number)
            with contextlib.suppress(ConnectionClosed):
                await asyncio.wait_for(client.recv(), 10)
            return client.close_code

    assert asyncio.run(scenario()) == 1001
    assert process.wait(5) == 0


def test_a_port_in_use_is_reported_with_the_variable_to_change(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortError, match=f"port {port} on 127.0.0.1 is in use: .* EVENTPULSE_LIVE_PORT"):
            gateway.run(Settings(live_port=port), redis_url)


def test_an_address_of_another_machine_is_reported_with_the_variable_to_change(redis_url: str) -> None:
    with pytest.raises(PortError, match=r"cannot listen on 192\.0\.2\.1 .* EVENTPULSE_HOST"):
        gateway.run(Settings(host="192.0.2.1"), redis_url)

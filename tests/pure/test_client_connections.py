"""Tests of the limits of connections, with real sockets."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import gevent.socket
import pytest

from api import client_connections
from api.client_connections import ClientSocket, Connections, UnsentResponses

Connect = Callable[[str], tuple[ClientSocket, socket.socket]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a function that returns the two ends of a new connection: of the server, and of the client."""
    opened: list[Any] = []
    unsent = UnsentResponses(1_000_000)

    def make(address: str = "10.0.0.1") -> tuple[ClientSocket, socket.socket]:
        server, client = socket.socketpair()
        client.setblocking(False)
        accepted = ClientSocket(gevent.socket.socket(fileno=server.detach()), address, unsent)
        opened.extend((accepted, client))
        return accepted, client

    yield make
    for each in opened:
        each.close()


def is_open(client: ClientSocket) -> bool:
    client.setblocking(False)
    with suppress(BlockingIOError):
        return client.recv(1) != b""
    return True


def test_the_connection_that_is_idle_for_the_longest_time_is_closed_at_the_limit(connect: Connect) -> None:
    table = Connections(max_open=3, max_per_address=0)
    busy, oldest, newer, newest = clients = [connect(f"10.0.0.{number}")[0] for number in range(4)]
    for client in clients[:3]:
        assert table.add(client)
        table.mark_idle(client)
    table.mark_busy(busy)
    assert table.add(newest)
    assert [is_open(client) for client in (busy, oldest, newer, newest)] == [True, False, True, True]


def test_at_the_limit_of_an_address_its_oldest_idle_connection_is_closed(connect: Connect) -> None:
    table = Connections(max_open=100, max_per_address=2)
    other, first, second, third = connect("10.0.0.2")[0], *(connect("10.0.0.1")[0] for _ in range(3))
    for client in (other, first, second):
        assert table.add(client)
        table.mark_idle(client)
    assert table.add(third)
    assert [is_open(client) for client in (other, first, second, third)] == [True, False, True, True]


def test_a_connection_is_rejected_if_its_address_has_only_busy_ones(connect: Connect) -> None:
    table = Connections(max_open=100, max_per_address=2)
    first, second, third, other = *(connect("10.0.0.1")[0] for _ in range(3)), connect("10.0.0.2")[0]
    assert table.add(first)
    assert table.add(second)
    assert not table.add(third)
    assert table.add(other)
    assert is_open(first)
    assert is_open(second)
    table.remove(third)  # was not counted
    table.remove(first)
    assert table.add(third)
    assert not table.add(first)


def test_a_request_that_has_arrived_is_read_although_its_connection_is_closed(connect: Connect) -> None:
    table = Connections(max_open=1, max_per_address=0)
    client, peer = connect("10.0.0.1")
    peer.send(b"GET")
    table.add(client)
    table.mark_idle(client)
    table.close_idle()
    assert client.recv(100) == b"GET"
    assert client.recv(100) == b""


def test_no_limit_of_an_address(connect: Connect) -> None:
    table = Connections(max_open=100, max_per_address=0)
    assert all(table.add(connect("10.0.0.1")[0]) for _ in range(20))


def test_sending_fails_if_the_client_reads_nothing(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_connections, "SEND_SECONDS", 0.2)
    client, _ = connect("10.0.0.1")
    started = time.monotonic()
    with pytest.raises(BrokenPipeError):
        client.sendall(b"x" * 50_000_000)
    assert 0.1 < time.monotonic() - started < 5
    assert client.gettimeout() is None


def test_sending_continues_while_the_client_reads(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for the time without progress, not for the whole response."""
    monkeypatch.setattr(client_connections, "SEND_SECONDS", 0.5)
    client, peer = connect("10.0.0.1")
    sent = b"x" * 6_000_000
    received = bytearray()

    def read_slowly() -> None:
        while len(received) < len(sent):
            with suppress(BlockingIOError):
                received.extend(peer.recv(500_000))
            gevent.sleep(0.1)

    reader = gevent.spawn(read_slowly)
    started = time.monotonic()
    client.sendall(sent)
    assert time.monotonic() - started > 0.5
    reader.join(10)
    assert bytes(received) == sent


def test_the_slowest_reader_is_disconnected_if_unsent_responses_use_too_much_memory(connect: Connect) -> None:
    clients = [connect("10.0.0.1")[0] for _ in range(3)]  # at most 1,000,000 bytes are unsent
    senders = [gevent.spawn(client.sendall, b"x" * 400_000) for client in clients]
    finished = gevent.wait(senders, timeout=5, count=1)
    assert finished == senders[:1]
    assert isinstance(senders[0].exception, BrokenPipeError)
    gevent.killall(senders)

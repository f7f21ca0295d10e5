"""Tests of the limit of requests that use PostgreSQL at the same time."""

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest
from support.waiting import until

from api import connection_limit
from api.connection_limit import ConnectionLimit


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def waiting(limit: ConnectionLimit) -> int:
    return len(limit._waiting)


def test_a_request_beyond_the_limit_is_rejected_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection_limit.WAIT_SECONDS == 1
    monkeypatch.setattr(connection_limit, "WAIT_SECONDS", 0.05)
    limit = ConnectionLimit(2)
    assert [limit.acquire() for _ in range(2)] == [True, True]
    started = time.monotonic()
    assert not limit.acquire()
    assert time.monotonic() - started >= 0.05
    assert waiting(limit) == 0
    limit.release()
    assert limit.acquire(), "the rejected request occupies a connection"


def test_requests_beyond_the_maximum_number_of_waiting_requests_are_rejected_immediately(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_limit, "WAIT_SECONDS", 20)
    monkeypatch.setattr(connection_limit, "MAX_WAITING", 3)
    limit = ConnectionLimit(1)
    assert limit.acquire()
    threads = [in_thread(limit.acquire) for _ in range(3)]
    until(lambda: waiting(limit) == 3)
    started = time.monotonic()
    assert not limit.acquire()
    assert time.monotonic() - started < 5
    for thread in threads:
        limit.release()
        thread.join(5)


def test_waiting_requests_are_served_in_the_order_of_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limit, "WAIT_SECONDS", 20)
    limit = ConnectionLimit(1)
    assert limit.acquire()
    served: list[int] = []

    def request(number: int) -> None:
        assert limit.acquire()
        served.append(number)

    threads = []
    for number in range(3):
        threads.append(in_thread(partial(request, number)))
        until(lambda: waiting(limit) == len(threads))
    for thread in threads:
        limit.release()
        thread.join(5)
    assert served == [0, 1, 2]


def test_a_connection_that_is_granted_at_the_end_of_the_wait_is_not_lost() -> None:
    limit = ConnectionLimit(1)
    assert limit.acquire()
    granted = threading.Event()
    limit._waiting.append(granted)
    limit.release()
    assert limit._withdraw(granted), "the request was rejected although it holds a connection"

"""Measurement of the rate at which a peer drains a backlog into the `events` table."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from servers import Servers

from peers import celery_app, stock, streams

BENCHMARKS = Path(__file__).parent.parent
START_SECONDS = 15
STOP_SECONDS = 5
POLL_SECONDS = 0.05


class Peer(Protocol):
    """Module of a peer. `fill` queues events; `python -m WORKER` with the variables SETTINGS processes the events."""

    WORKER: list[str]
    SETTINGS: dict[str, str]

    def fill(self, servers: Servers, events: Sequence[bytes]) -> None: ...


PEERS: dict[str, Peer] = {"dramatiq": stock, "celery": celery_app, "streams": streams}


class PeerError(Exception):
    """Raised when a peer exits, stores nothing, or stores an event twice."""


def drained(servers: Servers, peer: Peer, events: Sequence[bytes], at_most_seconds: float = 20) -> float:
    """Return the events per second that a peer stores; the time until the first stored row does not count.

    The peer is stopped after `at_most_seconds`; the rate is then that of the events stored so far. Raises `PeerError`.
    """
    servers.empty()
    peer.fill(servers, events)
    with _worker(servers, peer) as worker:
        first = _wait(servers, worker, 1, START_SECONDS)
        started = time.perf_counter()
        last = _wait(servers, worker, len(events), at_most_seconds)
        rate = (last - first) / (time.perf_counter() - started)
    stored = servers.stored()
    if first == 0 or stored > len(events) or (last == len(events) and stored != last):
        raise PeerError(f"{peer.WORKER[0]} stored {stored} of {len(events)} events")
    return rate


def _wait(servers: Servers, worker: subprocess.Popen[bytes], rows: int, at_most_seconds: float) -> int:
    """Wait for `rows` stored rows, the exit of the worker or the timeout; return the number of stored rows."""
    deadline = time.perf_counter() + at_most_seconds
    while (stored := servers.stored()) < rows and time.perf_counter() < deadline and worker.poll() is None:
        time.sleep(POLL_SECONDS)
    return stored


@contextmanager
def _worker(servers: Servers, peer: Peer) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryFile() as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", *peer.WORKER],
            cwd=BENCHMARKS,
            env=servers.environ() | peer.SETTINGS,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that the children can be killed with the worker
        )
        try:
            yield worker
            if worker.poll() is not None:
                log.seek(0)
                raise PeerError(f"{peer.WORKER[0]} ended: {log.read().decode(errors='replace')[-2000:]}")
        finally:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()

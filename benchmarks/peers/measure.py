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
    """Module of a peer: `python -m WORKER`, with SETTINGS in its environment, drains the events that `fill` queued."""

    WORKER: list[str]
    SETTINGS: dict[str, str]

    def fill(self, servers: Servers, events: Sequence[bytes]) -> None: ...


PEERS: dict[str, Peer] = {"dramatiq": stock, "celery": celery_app, "streams": streams}


class PeerError(Exception):
    """A peer did not store its events; the message has the end of its output."""


def drained(servers: Servers, peer: Peer, events: Sequence[bytes], at_most_seconds: float = 20) -> float:
    """Return the events per second that the peer stores, from the first rows to the last, without its start.

    A peer is stopped after `at_most_seconds`; its rate is then that of the events stored so far.
    Raises `PeerError` if it exits, stores nothing, or stores an event twice.
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
    """Wait until this many rows are stored, the time is over or the worker has exited; return the number of rows."""
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
            start_new_session=True,  # its children can be killed with its session
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

"""Benchmark of hostile requests beside normal ones: latency of `/livez` and of ingest, and memory of the API process.

    .venv/bin/python benchmarks/neighbours_requests.py [--seconds 6] [--only idle …]

idle      2,100 connections that send nothing
readers   20 clients that request large pages and read nothing
held      150 clients that send gzip bodies, all but the end
brackets, nested, invalid, valid, members
          two clients that send such a body again and again: 4.8 MB of brackets in an invalid event; 5 MB of brackets
          that are never closed; 13 kB of gzip with 1,000 invalid events; the largest valid events of brackets; empty
          gzip members
The API has one process. Each probe opens a connection; a probe without a 2xx response within 10 s counts as 10 s.
"""

import argparse
import gzip
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

from report import Line, Report
from system import System, system

IDLE, READERS, HELD, SENDERS = 2_100, 20, 150, 2
PROBE_SECONDS = 10
PAUSE_SECONDS = 0.02
MIB = 2**20
EVENT = b'{"event_type":"probe","source":"benchmark","timestamp":"2026-11-20T12:00:00Z"%b}'
LARGE_ROWS = """
    INSERT INTO events (event_id, event_type, source, timestamp, payload, metadata, received_at)
    SELECT gen_random_uuid(), 'large', 'benchmark', now() - n * interval '1 ms',
           jsonb_build_object('text', texts.text), '{}', now()
    FROM generate_series(1, 500) n,
         LATERAL (SELECT string_agg(md5(n::text || m), '') AS text FROM generate_series(1, 1900) m) AS texts
"""
Attack = Callable[[tuple[str, int]], Iterator[None]]


def payload(value: bytes) -> bytes:
    return EVENT % (b',"payload":{"a":%b}' % value)


def brackets(count: int) -> bytes:
    return b"[" + b",".join([b"[]"] * count) + b"]"


BODIES: dict[str, Callable[[], tuple[bytes, bool]]] = {
    "brackets": lambda: (b"[%b]" % payload(brackets(1_600_000) + b"x"), False),
    "nested": lambda: (b"[" * 5_000_000, False),
    "invalid": lambda: (gzip.compress(b"[%b]" % b",".join([b'{"payload":{"a":%b}}' % brackets(1_600)] * 1_000)), True),
    "valid": lambda: (gzip.compress(b"[%b]" % b",".join([payload(brackets(21_700))] * 79)), True),
    "members": lambda: (gzip.compress(b"") * 200_000, True),
}


@contextmanager
def idle(address: tuple[str, int]) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(IDLE):
            with suppress(OSError):
                stack.enter_context(socket.create_connection(address, timeout=0.5))
        yield


@contextmanager
def readers(address: tuple[str, int]) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(READERS):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(address)
            client.sendall(b"GET /api/v1/events?limit=500&event_type=large HTTP/1.1\r\nHost: benchmark\r\n\r\n")
        yield


@contextmanager
def held(address: tuple[str, int]) -> Iterator[None]:
    lines = b"\n".join(EVENT % (b',"payload":{"n":%d}' % number) for number in range(28_000))
    body = gzip.compress(lines)
    with ExitStack() as stack:
        for _ in range(HELD):
            client = stack.enter_context(socket.create_connection(address, timeout=1))
            with suppress(OSError):
                client.sendall(head(len(body), compressed=True, lines=True) + body[:-100])
        yield


def sender(name: str) -> Attack:
    """Return the attack of `SENDERS` clients that send the body `name` again and again."""
    body, compressed = BODIES[name]()

    def send(address: tuple[str, int], stopped: threading.Event) -> None:
        while not stopped.is_set():
            with suppress(OSError), socket.create_connection(address, timeout=PROBE_SECONDS) as client:
                client.sendall(head(len(body), compressed=compressed) + body)
                client.recv(4096)

    @contextmanager
    def attack(address: tuple[str, int]) -> Iterator[None]:
        stopped = threading.Event()
        threads = [threading.Thread(target=send, args=(address, stopped)) for _ in range(SENDERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            for thread in threads:
                thread.join()

    return attack


def head(length: int, *, compressed: bool = False, lines: bool = False) -> bytes:
    media_type = "application/x-ndjson" if lines else "application/json"
    encoding = "Content-Encoding: gzip\r\n" if compressed else ""
    return (
        f"POST /api/v1/events/batch HTTP/1.1\r\nHost: benchmark\r\nContent-Type: {media_type}\r\n{encoding}"
        f"Content-Length: {length}\r\nConnection: close\r\n\r\n"
    ).encode()


def probe(address: tuple[str, int], request: bytes) -> float:
    """Return the time of one request in milliseconds."""
    started = time.perf_counter()
    with suppress(OSError), socket.create_connection(address, timeout=PROBE_SECONDS) as client:
        client.sendall(request)
        if client.recv(4096).startswith(b"HTTP/1.1 2"):
            return (time.perf_counter() - started) * 1000
    return PROBE_SECONDS * 1000.0


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[math.ceil(share * len(times)) - 1]


def measure(running: System, report: Report, name: str, attack: Attack, seconds: float) -> None:
    """Report the latencies of both probes during the attack, and the largest growth of the API process."""
    parts = urlsplit(running.api)
    address = (parts.hostname or "", parts.port or 0)
    (process,) = running.processes("api")
    event = EVENT % b""
    requests = {
        "/livez": b"GET /livez HTTP/1.1\r\nHost: benchmark\r\nConnection: close\r\n\r\n",
        "ingest": head(len(event)).replace(b"/batch", b"") + event,
    }
    times: dict[str, list[float]] = {target: [] for target in requests}
    for request in requests.values():
        probe(address, request)  # opens the connections of the process to Redis
    before = largest = process.memory_info().rss
    with attack(address):
        end = time.monotonic() + seconds

        def repeat(target: str) -> None:
            while time.monotonic() < end:
                times[target].append(probe(address, requests[target]))
                time.sleep(PAUSE_SECONDS)

        threads = [threading.Thread(target=repeat, args=(target,)) for target in requests]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            largest = max(largest, process.memory_info().rss)
            time.sleep(PAUSE_SECONDS)
    for target, found in times.items():
        failed = sum(each >= PROBE_SECONDS * 1000 for each in found)
        note = f"{len(found)} requests, {failed} failed; p50 {percentile(found, 0.5):.1f} ms"
        report.add(Line(f"{name}: {target}, p99", "ms", [percentile(found, 0.99)], at_most=250, note=note))
    report.add(Line(f"{name}: memory of the API", "MiB", [(largest - before) / MIB], at_most=200))


def main() -> None:
    attacks: dict[str, Callable[[], Attack]] = {"idle": lambda: idle, "readers": lambda: readers, "held": lambda: held}
    attacks |= {name: lambda name=name: sender(name) for name in BODIES}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--only", nargs="*", choices=list(attacks))
    chosen = parser.parse_args()
    report = Report()
    for name in chosen.only or attacks:
        # New servers for each attack, so that the memory of the process is not that of the previous attack.
        with system("always", 1, 1) as running:
            with running.servers.connection.cursor() as cursor:
                cursor.execute(LARGE_ROWS)
            measure(running, report, name, attacks[name](), chosen.seconds)


if __name__ == "__main__":
    main()

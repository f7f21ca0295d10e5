"""PostgreSQL dies, stops, refuses, or runs out of disk."""

import time
from contextlib import closing, suppress

import psycopg2
from chaos.context import Fault, Scene, Size, kill_server, percentile, stop_server

LOOP_SECONDS = 10.0
#: What PostgreSQL logs when nothing of a write finds room, or a part of it does.
OUT_OF_ROOM = ("No space left on device", "Check free disk space")
#: Ingest notices an outage when its p99 is so many times what it was, and so much longer.
NOTICED, NOTICED_SECONDS = 2.0, 0.05


def kill(scene: Scene) -> None:
    scene.repeat(lambda: scene.outage(scene.plant.postgres, scene.rng.uniform(0, 0.5), kill_server))


def stop(scene: Scene) -> None:
    """Ingest must not notice."""
    scene.flow(2 if scene.is_short else 20)
    before = scene.ledger.latencies()
    stop_server(scene.plant.postgres)
    down_at = time.monotonic()
    scene.flow(5 if scene.is_short else 60)
    during = scene.ledger.latencies(after=down_at)
    scene.plant.postgres.start()
    scene.recoveries.strike("PostgreSQL is back")
    usual, meanwhile = percentile(before, 0.99), percentile(during, 0.99)
    scene.notes |= {"p99_before": usual, "p99_during": meanwhile}
    noticed = usual is None or meanwhile is None or meanwhile > NOTICED * usual + NOTICED_SECONDS
    scene.expect(f"ingest notices: p99 {usual} s before, {meanwhile} s during the outage", not noticed)


def terminate_backends(scene: Scene) -> None:
    query = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
    terminated = 0
    deadline = time.monotonic() + (3 if scene.is_short else LOOP_SECONDS)
    with psycopg2.connect(scene.plant.postgres.url, application_name="battery") as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            while time.monotonic() < deadline:
                cursor.execute(query)
                terminated += cursor.fetchone()[0]
                scene.flow(0.05)
    connection.close()
    scene.notes["terminated"] = terminated
    scene.recoveries.strike("the last backend was ended")


def make_read_only(scene: Scene) -> None:
    url = scene.plant.postgres.url
    _read_only(url, "on")
    try:
        scene.flow(3 if scene.is_short else LOOP_SECONDS)
    finally:
        _read_only(url, "off")
    scene.recoveries.strike("writes are allowed again")


def fill_disk(scene: Scene) -> None:
    """Ballast fills PostgreSQL's disk, and is taken away again."""
    disk = scene.plant.disk
    deadline = time.monotonic() + (4 if scene.is_short else 20)
    try:
        while time.monotonic() < deadline:
            disk.fill()  # what PostgreSQL frees is taken, too
            if scene.plant.postgres.exit_status() is None:
                _use_up_log(scene)
            scene.flow(0.1)
    finally:
        disk.clear()
    said = scene.plant.postgres.log.read_text(errors="replace")
    scene.notes["refused_for_want_of_room"] = sum(said.count(words) for words in OUT_OF_ROOM)
    if scene.plant.postgres.exit_status() is not None:
        scene.notes["postgres"] = "it went down, and was started again"
        scene.plant.postgres.start()
    scene.recoveries.strike("there is room again")


def _use_up_log(scene: Scene) -> None:
    """Have PostgreSQL begin another file of its write-ahead log, as it would after a while."""
    with suppress(psycopg2.Error), closing(psycopg2.connect(scene.plant.postgres.url, connect_timeout=2)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_switch_wal()")


def _read_only(url: str, state: str) -> None:
    connection = psycopg2.connect(url, options="-c default_transaction_read_only=off", application_name="battery")
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER SYSTEM SET default_transaction_read_only = {state}")
            cursor.execute("SELECT pg_reload_conf()")
    finally:
        with suppress(psycopg2.Error):
            connection.close()


FAULTS = [
    Fault(
        "postgres-sigkill",
        "PostgreSQL is killed with all its backends, and started again within half a second.",
        kill,
        Size(20, 20_000),
        Size(2, 2_000),
        recovers_within=20,
        counted_from="PostgreSQL is back",
    ),
    Fault(
        "postgres-stopped",
        "PostgreSQL is stopped for 60 s.",
        stop,
        Size(1, 30_000),
        Size(1, 2_000),
        counted_from="PostgreSQL is back",
    ),
    Fault(
        "postgres-terminate",
        "All backends of PostgreSQL are ended, 20 times a second for 10 s.",
        terminate_backends,
        Size(1, 6_000),
        Size(1, 2_000),
        counted_from="the last was ended",
    ),
    Fault(
        "postgres-read-only",
        "PostgreSQL takes no writes for 10 s.",
        make_read_only,
        Size(1, 6_000),
        Size(1, 2_000),
        counted_from="writes are allowed again",
    ),
    *(
        Fault(
            f"postgres-{what}-disk-full",
            f"The disk that has PostgreSQL's {what} is full for 20 s.",
            fill_disk,
            Size(1, 10_000),
            Size(1, 2_000),
            disk=what,
            counted_from="there is room again",
        )
        for what in ("data", "log")
    ),
]

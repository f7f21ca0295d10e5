"""Faults of PostgreSQL: it is killed, stopped or read-only, its connections are ended, or its disk is full."""

import time
from contextlib import closing, suppress

import psycopg2
from chaos.context import Context, Fault, Size, kill_server, percentile, stop_server

LOOP_SECONDS = 10.0
#: Texts in the log of PostgreSQL when a write fails or is incomplete because the disk is full.
DISK_FULL_TEXTS = ("No space left on device", "Check free disk space")
#: Limit of the p99 of ingest during an outage: `MAX_FACTOR` * p99 before the outage + `MAX_EXTRA_SECONDS`.
MAX_FACTOR, MAX_EXTRA_SECONDS = 2.0, 0.05


def kill(context: Context) -> None:
    context.repeat(lambda: context.outage(context.system.postgres, context.rng.uniform(0, 0.5), kill_server))


def stop(context: Context) -> None:
    """Stop and restart PostgreSQL, and expect that the p99 of ingest stays within its limit during the outage."""
    context.wait(2 if context.is_short else 20)
    before = context.client.latencies()
    stop_server(context.system.postgres)
    down_at = time.monotonic()
    context.wait(5 if context.is_short else 60)
    during = context.client.latencies(after=down_at)
    context.system.postgres.start()
    context.recoveries.record_injection("PostgreSQL was restarted")
    p99_before, p99_during = percentile(before, 0.99), percentile(during, 0.99)
    context.notes |= {"p99_before": p99_before, "p99_during": p99_during}
    is_affected = p99_before is None or p99_during is None or p99_during > MAX_FACTOR * p99_before + MAX_EXTRA_SECONDS
    context.expect(f"ingest is affected: p99 {p99_before} s before, {p99_during} s during the outage", not is_affected)


def terminate_backends(context: Context) -> None:
    query = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"""
    terminated = 0
    deadline = time.monotonic() + (3 if context.is_short else LOOP_SECONDS)
    with psycopg2.connect(context.system.postgres.url, application_name="chaos") as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            while time.monotonic() < deadline:
                cursor.execute(query)
                terminated += sum(count for (count,) in cursor.fetchall())
                context.wait(0.05)
    connection.close()
    context.notes["terminated"] = terminated
    context.recoveries.record_injection("the last backend was terminated")


def make_read_only(context: Context) -> None:
    url = context.system.postgres.url
    _read_only(url, "on")
    try:
        context.wait(3 if context.is_short else LOOP_SECONDS)
    finally:
        _read_only(url, "off")
    context.recoveries.record_injection("writes are allowed")


def fill_disk(context: Context) -> None:
    """Keep the disk of PostgreSQL full for some time, then free the space and restart PostgreSQL if it has exited."""
    disk = context.system.disk
    deadline = time.monotonic() + (4 if context.is_short else 20)
    try:
        while time.monotonic() < deadline:
            disk.fill()  # PostgreSQL may have freed space since the previous call
            if context.system.postgres.exit_status() is None:
                _switch_log_file(context)
            context.wait(0.1)
    finally:
        disk.clear()
    log = context.system.postgres.log.read_text(errors="replace")
    context.notes["disk_full_errors"] = sum(log.count(text) for text in DISK_FULL_TEXTS)
    if context.system.postgres.exit_status() is not None:
        context.notes["postgres"] = "PostgreSQL exited and was restarted"
        context.system.postgres.start()
    context.recoveries.record_injection("the disk has space")


def _switch_log_file(context: Context) -> None:
    """Make PostgreSQL start a new file of its write-ahead log: the file needs space on the disk."""
    with (
        suppress(psycopg2.Error),
        closing(psycopg2.connect(context.system.postgres.url, connect_timeout=2)) as connection,
    ):
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_switch_wal()")


def _read_only(url: str, state: str) -> None:
    connection = psycopg2.connect(url, options="-c default_transaction_read_only=off", application_name="chaos")
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
        "PostgreSQL is killed with all its backends and restarted within half a second.",
        kill,
        Size(20, 20_000),
        Size(2, 2_000),
        recovers_within=20,
        counted_from="PostgreSQL was restarted",
    ),
    Fault(
        "postgres-stopped",
        "PostgreSQL is stopped for 60 s.",
        stop,
        Size(1, 30_000),
        Size(1, 2_000),
        counted_from="PostgreSQL was restarted",
    ),
    Fault(
        "postgres-terminate",
        "All backends of PostgreSQL are terminated, 20 times per second for 10 s.",
        terminate_backends,
        Size(1, 6_000),
        Size(1, 2_000),
        counted_from="the last backend was terminated",
    ),
    Fault(
        "postgres-read-only",
        "PostgreSQL is read-only for 10 s.",
        make_read_only,
        Size(1, 6_000),
        Size(1, 2_000),
        counted_from="writes are allowed",
    ),
    *(
        Fault(
            f"postgres-{disk}-disk-full",
            f"The disk with the {contents} of PostgreSQL is full for 20 s.",
            fill_disk,
            Size(1, 10_000),
            Size(1, 2_000),
            disk=disk,
            counted_from="the disk has space",
        )
        for disk, contents in (("data", "data"), ("log", "write-ahead log"))
    ),
]

"""Tests of `eventpulse doctor`, and of the preflight checks of each process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis
import time_machine
from support.cli import Run
from support.pipeline_factory import accept, event, rule
from support.pooler import pooler
from support.processes import environ, free_ports
from support.redis_config import configured
from support.storm_factory import store_storm

from actors import runtime
from actors.broker import broker
from actors.rule_state import report, unsupported
from actors.rule_state.report import Degradation, RuleState
from eventpulse.settings import ConnectedSettings
from models.base import now
from models.database import connection


def states(out: str) -> dict[str, str]:
    return {f"{row['server']} {row['check']}": row["state"] for row in json.loads(out)}


@pytest.fixture
def pipeline(redis_url: str, redis_client: redis.Redis, empty_database: str) -> redis.Redis:
    """Connect the actors to an empty Redis and an empty database; return a Redis client. No worker runs."""
    runtime.setup(ConnectedSettings(redis_url=redis_url, database_url=empty_database), name="tests")
    return redis_client


@pytest.fixture
def working(pipeline: redis.Redis) -> redis.Redis:
    """Store the heartbeat of a worker in Redis, and return a Redis client."""
    seconds, _ = pipeline.time()
    pipeline.zadd("eventpulse:__heartbeats__", {"persist|a-worker.1": seconds * 1000})
    return pipeline


def test_all_checks_pass(with_servers: Run, working: redis.Redis) -> None:
    with configured(working, maxmemory=10**9):
        ended = with_servers("doctor", "-o", "json")
    assert (ended.code, ended.err) == (0, "All checks passed.\n")
    assert set(states(ended.out).values()) == {"ok"}


@pytest.mark.parametrize(
    ("settings", "check", "state", "remedy"),
    [
        ({"maxmemory_policy": "allkeys-lru"}, "eviction", "fatal", "set noeviction"),
        ({"appendonly": "no"}, "durability", "warning", "set appendonly yes"),
        ({"appendfsync": "everysec"}, "durability", "warning", "appendfsync always"),
        ({"maxmemory": 1}, "memory", "warning", "raise maxmemory"),
        ({"maxmemory": 0}, "memory", "warning", "set maxmemory"),
    ],
)
def test_a_redis_that_could_lose_events_is_found_with_its_remedy(
    settings: dict[str, Any], check: str, state: str, remedy: str, with_servers: Run, working: redis.Redis
) -> None:
    with configured(working, **settings):
        ended = with_servers("doctor", "-o", "json")
    assert ended.code == 3
    assert states(ended.out)[f"Redis {check}"] == state
    assert remedy in ended.err


def test_a_replica_is_found(with_servers: Run, working: redis.Redis) -> None:
    working.replicaof("127.0.0.1", 1)
    try:
        ended = with_servers("doctor", "-o", "json")
    finally:
        working.replicaof("NO", "ONE")
    assert states(ended.out)["Redis role"] == "warning"


@pytest.mark.parametrize(
    ("forbidden", "check", "found"), [("config", "durability", "appendfsync unknown"), ("info", "permissions", "info")]
)
def test_a_redis_that_does_not_allow_a_command_is_not_a_failure(
    forbidden: str, check: str, found: str, with_servers: Run, working: redis.Redis, tmp_path: Path
) -> None:
    working.acl_setuser("guest", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", f"-{forbidden}"])
    path = working.connection_pool.connection_kwargs["path"]
    try:
        ended = with_servers("doctor", "-o", "ndjson", REDIS_URL=f"unix://guest:secret@{path}")
    finally:
        working.acl_deluser("guest")
    (finding,) = [
        row for row in map(json.loads, ended.out.splitlines()) if row["check"] == check and row["server"] == "Redis"
    ]
    assert found in finding["found"]
    assert finding["state"] in ("ok", "warning")


def test_different_clocks_are_found(with_servers: Run, working: redis.Redis) -> None:
    with time_machine.travel(time.time() + 61):
        ended = with_servers("doctor", "-o", "json")
    assert states(ended.out)["Redis clock"] == "fatal"
    assert "synchronize the machines' clocks" in ended.err


def test_a_postgresql_that_could_lose_rows_or_is_read_only_is_found(
    with_servers: Run, working: redis.Redis, empty_database: str
) -> None:
    admin = psycopg2.connect(empty_database)
    admin.autocommit = True
    cursor = admin.cursor()
    try:
        cursor.execute("ALTER ROLE CURRENT_USER SET synchronous_commit = off")
        cursor.execute("ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
        ended = with_servers("doctor", "-o", "json")
    finally:
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute("ALTER ROLE CURRENT_USER RESET ALL")
        admin.close()
    assert ended.code == 3
    found = states(ended.out)
    assert (found["PostgreSQL durability"], found["PostgreSQL writes"]) == ("warning", "warning")
    assert "off: synchronous_commit" in ended.err


@pytest.mark.parametrize(("percent", "state"), [("50", "warning"), ("95", "ok")])
def test_memory_is_checked_at_the_configured_mark(
    percent: str, state: str, with_servers: Run, working: redis.Redis
) -> None:
    """Redis uses about 75 % of `maxmemory`."""
    used = working.info("memory")["used_memory"]
    with configured(working, maxmemory=used * 4 // 3):
        ended = with_servers("doctor", "-o", "json", EVENTPULSE_MAX_REDIS_MEMORY_PERCENT=percent)
    assert states(ended.out)["Redis memory"] == state
    assert (f"above {percent} % ingest rejects requests" in ended.err) == (state == "warning")


@pytest.mark.parametrize(("rejects", "found"), [(True, "rejected"), (False, "ignored")])
def test_a_connection_pool_that_changes_sessions_is_found(
    rejects: bool, found: str, with_servers: Run, working: redis.Redis, empty_database: str
) -> None:
    with pooler(empty_database, rejects=rejects) as url:
        ended = with_servers("doctor", "-o", "json", DATABASE_URL=url)
    assert ended.code == 3
    assert states(ended.out)["PostgreSQL session"] == "fatal"
    assert f"the startup parameter `options` is {found}; set DATABASE_URL to the address of PostgreSQL" in ended.err


def test_rules_that_a_worker_does_not_support_are_found(with_servers: Run, working: redis.Redis) -> None:
    seconds, _ = working.time()
    working.zadd("eventpulse:__heartbeats__", {f"persist|{broker.worker_id}.1": seconds * 1000})
    unsupported.report(broker, {"a-rule": "unknown type 'absence'"})
    ended = with_servers("doctor", "-o", "json")
    assert states(ended.out)["EventPulse rules supported"] == "warning"
    assert "a-rule (unknown type 'absence' (worker" in ended.err
    assert "upgrade all workers to the same version" in ended.err


def test_rules_above_their_memory_budget_are_found(with_servers: Run, working: redis.Redis) -> None:
    degradation = Degradation("the state needs 80.0 MiB, the budget is 64 MiB", now())
    report.publish({"a-rule": RuleState(80 * 2**20, 9, degradation, 5), "other": RuleState()}, set())
    ended = with_servers("doctor", "-o", "json")
    assert states(ended.out)["EventPulse rule state"] == "warning"
    assert "a-rule (the state needs 80.0 MiB, the budget is 64 MiB)" in ended.err
    assert "other" not in ended.err
    assert "or raise EVENTPULSE_RULE_MEMORY_MB" in ended.err


def test_rules_whose_condition_depends_on_the_order_of_events_are_found(
    with_servers: Run, working: redis.Redis
) -> None:
    fewer_than_five = {"type": "threshold", "filters": {}, "group_by": [], "operator": "<", "value": 5}
    rule(name="Too few orders", condition=fewer_than_five)
    ended = with_servers("doctor", "-o", "json")
    assert states(ended.out)["EventPulse rule conditions"] == "warning"
    assert "Too few orders: The operator < is evaluated only when an event arrives" in ended.err


def test_rules_in_a_long_storm_are_found(with_servers: Run, working: redis.Redis) -> None:
    with connection():
        store_storm(rule(name="Noisy").__data__)
    ended = with_servers("doctor", "-o", "json")
    assert states(ended.out)["EventPulse rule storms"] == "warning"
    assert "rule storms: Noisy since 2026-11-20 12:00:00 UTC; raise the threshold or the cooldown" in ended.err


def test_missing_workers_and_dead_letters_are_found(with_servers: Run, pipeline: redis.Redis) -> None:
    accept(event())
    pipeline.zadd("eventpulse:persist.XQ", {"an-id": 1})
    ended = with_servers("doctor")
    assert ended.code == 3
    assert "workers: 0 alive; start a worker" in ended.err
    assert "dead letters: 1; run `eventpulse dlq list` to see the reasons" in ended.err


def test_an_unavailable_server_is_reported_with_exit_code_69_and_the_other_is_checked(
    with_servers: Run, pipeline: redis.Redis
) -> None:
    (closed,) = free_ports(1)
    ended = with_servers("doctor", "-o", "json", REDIS_URL=f"redis://:s3cret@127.0.0.1:{closed}")
    assert ended.code == 69
    found = states(ended.out)
    assert (found["Redis connection"], found["PostgreSQL schema"]) == ("unreachable", "ok")
    assert "s3cret" not in ended.out + ended.err


@pytest.mark.parametrize("command", ["api", "worker", "scheduler", "up"])
def test_no_process_starts_on_a_redis_that_evicts_events(
    command: str, redis_url: str, empty_database: str, redis_client: redis.Redis
) -> None:
    (port,) = free_ports(1)
    settings = environ(REDIS_URL=redis_url, DATABASE_URL=empty_database, EVENTPULSE_PORT=str(port))
    with configured(redis_client, maxmemory_policy="volatile-ttl"):
        ended = subprocess.run(
            [sys.executable, "-m", "eventpulse", command], env=settings, capture_output=True, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert "Error: Redis: eviction: maxmemory-policy volatile-ttl; set noeviction" in ended.stderr


@pytest.mark.parametrize("command", ["worker", "scheduler"])
def test_no_process_starts_on_a_schema_with_pending_migrations(
    command: str, redis_url: str, empty_database: str
) -> None:
    admin = psycopg2.connect(empty_database)
    admin.autocommit = True
    admin.cursor().execute("CREATE DATABASE behind")
    try:
        url = empty_database.replace("/postgres?", "/behind?")
        settings = {**os.environ, "REDIS_URL": redis_url, "DATABASE_URL": url}
        ended = subprocess.run(
            [sys.executable, "-m", "eventpulse", command], env=settings, capture_output=True, text=True, timeout=60
        )
    finally:
        admin.cursor().execute("DROP DATABASE behind WITH (FORCE)")
        admin.close()
    assert ended.returncode == 1
    assert "PostgreSQL: schema: pending: 0001_initial" in ended.stderr
    assert "eventpulse migrate" in ended.stderr
    runtime.setup(ConnectedSettings(redis_url=redis_url, database_url=empty_database), name="tests")

"""Tests of the migrations, on a separate empty database."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

from models import database, migrations
from models.rule import WRITTEN, Rule, RuleVersion

MIGRATE = (
    "import sys; from models import database, migrations; database.configure(sys.argv[1]); print(*migrations.up())"
)


@pytest.fixture
def scratch(database_url: str) -> Iterator[str]:
    """Create a database without tables, configure the models for it, and return its URL."""
    server = psycopg2.connect(database_url)
    server.autocommit = True
    url = urlunsplit(urlsplit(database_url)._replace(path="/scratch"))
    with server.cursor() as cursor:
        cursor.execute("CREATE DATABASE scratch")
        try:
            database.configure(url, name="tests")
            yield url
        finally:
            database.database.close_all()
            database.configure(database_url, name="tests")
            cursor.execute("DROP DATABASE scratch WITH (FORCE)")
            server.close()


def tables(url: str) -> set[str]:
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = {name for (name,) in cursor.fetchall()}
    connection.close()
    return names - {"schema_migration"}


def migrate(url: str) -> list[str]:
    """Run the pending migrations in another process and return the names of the applied migrations."""
    done = subprocess.run([sys.executable, "-c", MIGRATE, url], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def test_a_fresh_database_has_every_migration_pending(scratch: str) -> None:
    assert migrations.status()
    assert all(migration.applied is None for migration in migrations.status())


def test_up_applies_each_pending_migration_once(scratch: str) -> None:
    applied = migrations.up()
    assert applied == [migration.name for migration in migrations.status()]
    assert all(migration.applied for migration in migrations.status())
    assert {"events", "rules", "anomalies", "deliveries", "channels", "throughput", "dead_letters"} <= tables(scratch)
    assert migrations.up() == []


def test_down_reverts_the_newest_and_up_applies_it_again(scratch: str) -> None:
    newest = migrations.up()[-1]
    assert migrations.down() == [newest]
    assert migrations.status()[-1].applied is None
    assert migrations.up() == [newest]


def test_down_to_the_first_migration_removes_every_table(scratch: str) -> None:
    applied = migrations.up()
    assert migrations.down(applied[0]) == applied[::-1]
    assert tables(scratch) == set()


def test_if_two_processes_migrate_at_the_same_time_only_one_applies_migrations(scratch: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(migrate, [scratch, scratch]))
    everything = [migration.name for migration in migrations.status()]
    assert sorted(outcomes) == [[], everything]


def test_a_migration_waits_for_the_process_that_holds_the_lock(scratch: str) -> None:
    """The test holds the lock until `pg_locks` shows that the other process waits for this lock."""
    holder = psycopg2.connect(scratch)
    with holder.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        cursor.execute("SELECT pg_advisory_lock(%s)", (migrations.ADVISORY_LOCK,))
        waiter = pool.submit(migrate, scratch)
        cursor.execute("SET statement_timeout = '30s'")
        cursor.execute(
            "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)"
            " LOOP PERFORM pg_sleep(0.01); END LOOP; END $$"
        )
        assert tables(scratch) == set()
        holder.close()
        assert waiter.result(timeout=60) == [migration.name for migration in migrations.status()]


def test_the_migration_of_a_slack_channel_keeps_its_reference_to_the_environment(scratch: str) -> None:
    migrations.up()
    migrations.down("0007_environment_references")
    with database.connection():
        database.database.execute_sql(
            """UPDATE channels SET kind = 'slack', settings = '{"webhook_url": "environment"}' WHERE name = 'console'"""
        )
    migrations.up()
    assert webhook_url() == "env:SLACK_WEBHOOK_URL"
    migrations.down("0007_environment_references")
    assert webhook_url() == "environment"


def webhook_url() -> str:
    """Return the webhook URL of the only Slack channel."""
    with database.connection():
        rows = database.database.execute_sql("SELECT settings->>'webhook_url' FROM channels WHERE kind = 'slack'")
        return rows.fetchone()[0]


def test_existing_rules_get_their_current_version(scratch: str) -> None:
    migrations.up()
    migrations.down("0004_rule_versions")
    with database.connection():
        database.database.execute_sql(
            """
            INSERT INTO rules
            SELECT gen_random_uuid(), 'Errors', true, 'info', 60, 300, 60, '{"type": "rate_spike"}', version, error,
                now(), now()
            FROM (VALUES (1, NULL), (2, NULL), (3, 'division by zero')) AS rules (version, error)
            """
        )
    migrations.up()
    with database.connection():
        versions = list(RuleVersion.select().order_by(RuleVersion.version))
        first = Rule.get_by_id(versions[0].rule_id)
    assert [(each.version, each.change, each.reason) for each in versions] == [
        (1, "created", None),
        (2, "changed", None),
        (3, "suspended", "division by zero"),
    ]
    assert versions[0].rule == {name: getattr(first, name) for name in WRITTEN}

"""Tests of the election of the leading scheduler."""

import psycopg2
from support.waiting import until

from models import database
from schedules.leader import Leadership


def test_only_one_of_two_schedulers_leads(database_url: str) -> None:
    first, second = Leadership(database_url), Leadership(database_url)
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    first.release()
    until(second.acquire)  # PostgreSQL may release the lock some time after the connection was closed
    second.release()


def test_a_leader_without_its_connection_no_longer_leads(database_url: str) -> None:
    first, second = Leadership(database_url), Leadership(database_url)
    assert first.acquire()
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eventpulse-leader'"
        )
    connection.close()
    assert not first.acquire()
    until(second.acquire)
    assert not first.acquire()
    second.release()


def test_no_scheduler_leads_without_postgresql() -> None:
    leadership = Leadership("postgresql://user@127.0.0.1:1/none")
    assert not leadership.acquire()
    assert "Connection refused" in (leadership.error or "")


def test_postgresql_ends_a_transaction_that_is_idle_for_30_seconds(empty_database: str) -> None:
    """The timeout releases the locks of a transaction whose host was lost."""
    database.configure(empty_database)
    leadership = Leadership(empty_database)
    assert leadership.acquire()
    assert leadership._connection is not None
    with leadership._connection.cursor() as cursor, database.connection():
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        pooled = database.database.execute_sql("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == pooled.fetchone() == ("30s",)
    leadership.release()

"""One scheduler leads at a time; another takes over when it goes."""

import psycopg2
from support.waiting import until

from models import database
from schedules.leader import Leadership


def test_only_one_of_two_leads(database_url: str) -> None:
    first, second = Leadership(database_url), Leadership(database_url)
    assert first.hold()
    assert first.hold()
    assert not second.hold()
    first.release()
    until(second.hold)  # PostgreSQL notices in its own time
    second.release()


def test_a_leader_that_lost_its_connection_leads_no_more(database_url: str) -> None:
    first, second = Leadership(database_url), Leadership(database_url)
    assert first.hold()
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eventpulse-leader'"
        )
    connection.close()
    assert not first.hold()
    until(second.hold)
    assert not first.hold()
    second.release()


def test_nobody_leads_without_postgresql() -> None:
    assert not Leadership("postgresql://nobody@127.0.0.1:1/none").hold()


def test_a_transaction_that_stands_still_is_ended(empty_database: str) -> None:
    """A host that vanished in the middle of one keeps its locks no longer than this."""
    database.configure(empty_database)
    leadership = Leadership(empty_database)
    assert leadership.hold()
    assert leadership._connection is not None
    with leadership._connection.cursor() as cursor, database.connection():
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        pooled = database.database.execute_sql("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == pooled.fetchone() == ("30s",)
    leadership.release()

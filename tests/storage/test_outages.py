"""Tests of the classification of database errors: outage, timeout or programming error."""

import peewee
import pytest

from models import database
from models.database import connection


def failure(statement: str) -> peewee.PeeweeException:
    """Run an SQL statement with a timeout of 50 ms and return the error that it raises."""
    with connection():
        database.database.execute_sql("SET statement_timeout = '50ms'")
        with pytest.raises(peewee.PeeweeException) as raised:
            database.database.execute_sql(statement)
        database.database.execute_sql("RESET statement_timeout")
    return raised.value


def test_a_statement_that_times_out_is_not_an_outage(empty_database: str) -> None:
    error = failure("SELECT pg_sleep(5)")
    assert database.is_too_slow(error)
    assert not database.is_outage(error)


def test_a_programming_error_is_not_an_outage(empty_database: str) -> None:
    error = failure("SELECT 1 / 0")
    assert not database.is_outage(error)
    assert not database.is_too_slow(error)


def test_a_connection_that_the_server_closed_is_an_outage(empty_database: str) -> None:
    with pytest.raises(peewee.OperationalError) as raised, connection():
        database.database.execute_sql("SELECT pg_terminate_backend(pg_backend_pid())")
    assert database.is_outage(raised.value)


def test_a_server_that_does_not_exist_is_an_outage(empty_database: str) -> None:
    database.configure("postgresql://none@127.0.0.1:1/none")
    with pytest.raises(peewee.OperationalError) as raised, connection():
        pass
    assert database.is_outage(raised.value)
    assert not database.is_outage(ValueError("a programming error"))


def test_a_nested_connection_leaves_the_outer_one_open(empty_database: str) -> None:
    with connection():
        with connection():
            pass
        assert database.database.execute_sql("SELECT 1").fetchone() == (1,)
    assert database.database.is_closed()


def test_a_deadlock_is_an_outage(db: None) -> None:
    with pytest.raises(peewee.OperationalError) as raised:
        database.database.execute_sql("DO $$ BEGIN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01'; END $$")
    assert database.is_outage(raised.value)

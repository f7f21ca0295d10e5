"""Tests of commands on a terminal: tables, and the confirmation of a deletion."""

import os
import pty
import select
from collections.abc import Callable

import pytest
import redis
from support.processes import COMMAND, environ

from models import database
from models.dead_letter import DeadLetter

OnTerminal = Callable[..., tuple[int, str]]


@pytest.fixture
def on_terminal(redis_client: redis.Redis, redis_url: str, empty_database: str) -> OnTerminal:
    """Store a dead letter; return a function that runs a command on a terminal and enters `answer` at the prompt."""
    with database.connection():
        DeadLetter.create(dead_letter_id="one", queue_name="persist", error="it was odd", message=b"{}")

    def run(*arguments: str, answer: str = "") -> tuple[int, str]:
        settings = environ(REDIS_URL=redis_url, DATABASE_URL=empty_database, COLUMNS="120")
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(COMMAND[0], [*COMMAND, *arguments], settings)
        shown = bytearray()
        while chunk := _read(terminal):
            shown += chunk
            if answer and b"[y/N]" in shown:
                os.write(terminal, answer.encode())
                answer = ""
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()

    return run


def _read(terminal: int) -> bytes:
    try:
        assert select.select([terminal], [], [], 10)[0], "the command prints nothing"
        return os.read(terminal, 65_536)
    except OSError:  # on Linux, reading fails after the command has ended
        return b""


def test_dead_letters_are_printed_as_a_table(on_terminal: OnTerminal) -> None:
    code, shown = on_terminal("dlq", "list")
    assert code == 0
    assert "dead_letter_id" in shown
    assert "it was odd" in shown
    assert "\t" not in shown


def test_the_answer_no_changes_nothing_and_ends_with_exit_code_6(on_terminal: OnTerminal) -> None:
    code, shown = on_terminal("dlq", "purge", "--all", answer="n\n")
    assert code == 6
    assert "delete 1 dead letter" in shown
    assert "it was odd" in shown
    with database.connection():
        assert DeadLetter.select().count() == 1


def test_the_answer_yes_deletes_and_shows_the_progress(on_terminal: OnTerminal) -> None:
    code, shown = on_terminal("dlq", "purge", "one", answer="y\n")
    assert code == 0
    assert "Deleting" in shown
    assert "1/1" in shown
    assert "1 deleted" in shown
    with database.connection():
        assert DeadLetter.select().count() == 0

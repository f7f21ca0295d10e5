"""Tests of `eventpulse dlq`: output, replay and deletion of dead letters, and confirmation."""

import json

import pytest
import redis
from support.cli import Run

from actors.recovery import dead_letters
from models import database
from models.dead_letter import DeadLetter


@pytest.fixture
def letters(with_servers: Run) -> list[str]:
    """Store three dead letters and return their ids. The third dead letter cannot be requeued."""
    names = ["first", "second", "third"]
    with database.connection():
        for name in names:
            DeadLetter.create(
                dead_letter_id=name,
                queue_name="persist",
                actor_name="persist",
                attempts=3,
                error=f"it was\nthe {name}",
                traceback="Traceback …",
                message=b"\xffnot JSON" if name == "third" else message(name),
            )
    return names


def message(name: str) -> bytes:
    return json.dumps(
        {
            "queue_name": "persist",
            "actor_name": "persist",
            "args": [{"event_id": name}],
            "kwargs": {},
            "options": {"retries": 3},
            "message_id": name,
            "message_timestamp": 1,
        }
    ).encode()


def remaining() -> int:
    with database.connection():
        return int(DeadLetter.select().count())


def test_dead_letters_are_listed_as_a_table_or_as_json(with_servers: Run, letters: list[str]) -> None:
    table = with_servers("dlq", "list")
    assert len(table.out.splitlines()) == 4
    assert "it was the first" in table.out
    rows = json.loads(with_servers("dlq", "list", "-o", "json").out)
    assert {row["dead_letter_id"] for row in rows} == set(letters)
    limited = with_servers("dlq", "list", "--limit", "1", "-o", "ndjson")
    assert len(limited.out.splitlines()) == 1
    assert "1 of 3 dead letters" in limited.err
    assert json.loads(with_servers("dlq", "list", "--queue", "notify", "-o", "json").out) == []


def test_a_dead_letter_is_shown_with_its_message_and_traceback(with_servers: Run, letters: list[str]) -> None:
    assert '"event_id": "first"' in with_servers("dlq", "show", "first").out
    third = with_servers("dlq", "show", "third")
    assert "\\xffnot JSON" in third.out
    assert "Traceback …" in third.out
    assert json.loads(with_servers("dlq", "show", "first", "-o", "json").out)["message"]["message_id"] == "first"


def test_no_output_contains_terminal_escapes(with_servers: Run, letters: list[str]) -> None:
    evil = "\x1b]52;c;ZXZpbA==\x07\u202e"
    with database.connection():
        DeadLetter.update(error=evil, traceback=f"Traceback\n  {evil}", message=f"no JSON {evil}".encode()).execute()
    for arguments in (["list"], ["show", "first"], ["purge", "--all", "--dry-run"], ["retry", "first", "--yes"]):
        ended = with_servers("dlq", *arguments)
        shown = ended.out.replace("\t", "") + ended.err
        assert all(char.isprintable() or char == "\n" for char in shown), arguments
    assert "Traceback\n  \\x1b]52" in with_servers("dlq", "show", "second").out


@pytest.mark.parametrize("command", ["show", "retry", "purge"])
def test_a_dead_letter_that_does_not_exist_is_reported_with_exit_code_4(
    command: str, with_servers: Run, letters: list[str]
) -> None:
    assert with_servers("dlq", command, "none").code == 4


@pytest.mark.parametrize("command", ["retry", "purge"])
def test_no_dead_letter_changes_without_confirmation(command: str, with_servers: Run, letters: list[str]) -> None:
    declined = with_servers("dlq", command, "--all")
    assert declined.code == 6
    assert "3 dead letters" in declined.err
    assert "third" in declined.err
    dry = with_servers("dlq", command, "--all", "--dry-run")
    assert dry.code == 0
    assert "nothing was changed" in dry.err
    assert remaining() == 3


def test_purge_deletes_the_given_dead_letters_or_all(with_servers: Run, letters: list[str]) -> None:
    assert with_servers("dlq", "purge", "first", "none", "--yes").code == 5
    assert remaining() == 2
    assert with_servers("dlq", "purge", "--all", "--yes").code == 0
    assert remaining() == 0
    assert with_servers("dlq", "purge", "--all", "--yes").err == "No dead letters.\n"


def test_retry_requeues_dead_letters_and_keeps_one_that_cannot_be_requeued(
    with_servers: Run, letters: list[str], redis_client: redis.Redis
) -> None:
    ended = with_servers("dlq", "retry", "--all", "--yes")
    assert ended.code == 5
    assert "2 requeued, 1 failed." in ended.err
    assert remaining() == 1
    assert redis_client.llen("eventpulse:persist") == 2


@pytest.mark.parametrize("command", ["retry", "purge"])
def test_more_dead_letters_than_one_batch_are_all_processed(
    command: str, with_servers: Run, letters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "BATCH", 1)
    with database.connection():
        DeadLetter.delete().where(DeadLetter.dead_letter_id == "third").execute()
    ended = with_servers("dlq", command, "--all", "--yes")
    assert ended.code == 0
    assert ("2 requeued, 0 failed." if command == "retry" else "2 deleted.") in ended.err
    assert remaining() == 0


def test_a_dead_letter_that_is_still_in_redis_is_listed(with_servers: Run, redis_client: redis.Redis) -> None:
    redis_client.zadd("eventpulse:persist.XQ", {"fresh": 1})
    redis_client.hset("eventpulse:persist.XQ.msgs", "fresh", message("fresh"))
    redis_client.hset("eventpulse:persist.XQ.why", "fresh", "it failed just now")
    assert "it failed just now" in with_servers("dlq", "list").out

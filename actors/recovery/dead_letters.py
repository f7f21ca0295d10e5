"""Dead letters in PostgreSQL, for operators to inspect, replay and delete.

A dead letter is first written to Redis, by the script that settles or recovers the message, because PostgreSQL may be
unavailable. `reconcile` stores dead letters in PostgreSQL and then removes them from Redis; after a crash between the
two steps, the next call repeats both. Only conflicting duplicates are stored in PostgreSQL directly. All functions
raise `peewee.PeeweeException` if PostgreSQL is unavailable.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import peewee
from dramatiq.message import Message

import actors.pipeline  # noqa: F401 - declares the actors and their queues
from actors.broker import broker
from actors.recovery import redis_dead_letters
from actors.transport.messages import ATTEMPT_OPTIONS, decode_message
from models.database import connection, database
from models.dead_letter import DeadLetter
from models.delivery import Delivery

#: Maximum number of dead letters that are read or written together, because their messages can be large.
BATCH = 100


class NotReplayable(Exception):
    """Raised for a dead letter that is not a message of a known actor: a replay would fail again."""


class Replay(NamedTuple):
    """Result of a replay: the number of queued messages, and an error text for each dead letter that was kept."""

    queued: int
    errors: list[str]


def reconcile() -> int:
    """Move the dead letters in Redis to PostgreSQL; return the number of moved dead letters.

    Raises `redis.RedisError` or `peewee.PeeweeException` if a server is unavailable.
    """
    moved = 0
    for queue_name in sorted(broker.get_declared_queues()):
        while letters := redis_dead_letters.oldest(queue_name, BATCH):
            with connection(), database.atomic():
                DeadLetter.add(letters)
                for letter in letters:
                    if delivery := redis_dead_letters.delivery_of(letter):
                        Delivery.mark_dead(*delivery, letter["error"])
            redis_dead_letters.remove(queue_name, [letter["dead_letter_id"] for letter in letters])
            moved += len(letters)
    return moved


def count(queue_name: str | None = None) -> int:
    """Return the number of dead letters of one queue, by default of all queues."""
    with connection():
        return int(_selected(queue_name).count())


def list_(limit: int, queue_name: str | None = None) -> list[DeadLetter]:
    """Return up to `limit` dead letters of one queue, by default of all queues, newest first."""
    with connection():
        return list(
            _selected(queue_name).order_by(DeadLetter.dead_lettered_at.desc(), DeadLetter.dead_letter_id).limit(limit)
        )


def ids(queue_name: str | None = None) -> Iterator[list[str]]:
    """Yield the ids of the dead letters of one queue, by default of all queues, oldest first, `BATCH` at a time.

    Dead letters that are added during the iteration are left out, so that a message that fails again after its replay
    is not replayed twice.
    """
    order = (DeadLetter.dead_lettered_at, DeadLetter.dead_letter_id)
    with connection():
        until = _selected(queue_name, peewee.fn.MAX(DeadLetter.dead_lettered_at)).scalar()
    letters = _selected(queue_name, DeadLetter.dead_letter_id, DeadLetter.dead_lettered_at)
    page = remaining = letters.where(DeadLetter.dead_lettered_at <= until).order_by(*order).limit(BATCH)
    while True:
        with connection():
            rows = list(page.tuples())
        if not rows:
            return
        yield [dead_letter_id for dead_letter_id, _ in rows]
        last_id, last_time = rows[-1]
        page = remaining.where(peewee.Tuple(*order) > (last_time, last_id))


def get(dead_letter_id: str) -> DeadLetter | None:
    """Return a dead letter, or None if it does not exist."""
    with connection():
        return DeadLetter.get_or_none(DeadLetter.dead_letter_id == dead_letter_id)


def get_many(dead_letter_ids: Sequence[str]) -> list[DeadLetter]:
    """Return the dead letters with these ids, without messages and tracebacks, newest first; ignore unknown ids."""
    columns = [field for name, field in DeadLetter._meta.fields.items() if name not in ("message", "traceback")]
    with connection():
        letters = DeadLetter.select(*columns).where(DeadLetter.dead_letter_id.in_(list(dead_letter_ids)))
        return list(letters.order_by(DeadLetter.dead_lettered_at.desc(), DeadLetter.dead_letter_id))


def replay(dead_letter_ids: Sequence[str]) -> Replay:
    """Delete dead letters and queue their messages again, without the options that describe past attempts.

    Dead letters that cannot be replayed are kept. Each batch is one transaction. After a crash before the commit, the
    dead letters of messages that are already queued remain; a second replay does no harm.

    Raises `redis.RedisError` or `peewee.PeeweeException` if a server is unavailable.
    """
    parts = [_replay_batch(part) for part in _batches(dead_letter_ids)]
    return Replay(sum(part.queued for part in parts), [error for part in parts for error in part.errors])


def purge(dead_letter_ids: Sequence[str]) -> int:
    """Delete dead letters in batches; return the number of deleted dead letters."""
    with connection():
        return sum(_delete(part) for part in _batches(dead_letter_ids))


def _batches(dead_letter_ids: Sequence[str]) -> Iterator[list[str]]:
    unique = list(dict.fromkeys(dead_letter_ids))
    for start in range(0, len(unique), BATCH):
        yield unique[start : start + BATCH]


def _replay_batch(dead_letter_ids: list[str]) -> Replay:
    messages: dict[str, Message[Any]] = {}
    errors: list[str] = []
    # One transaction: if a message fails again before the commit, the insert of its new dead letter waits for the
    # commit, and is not ignored as a duplicate of the old dead letter.
    with connection(), database.atomic():
        letters = DeadLetter.select().where(DeadLetter.dead_letter_id.in_(dead_letter_ids))
        for letter in letters.order_by(DeadLetter.dead_letter_id).for_update():
            try:
                messages[letter.dead_letter_id] = _without_history(letter)
            except NotReplayable as error:
                errors.append(str(error))
        _delete(list(messages))
        for message in messages.values():
            broker.enqueue(message)
    return Replay(len(messages), errors)


def _delete(dead_letter_ids: Sequence[str]) -> int:
    return int(DeadLetter.delete().where(DeadLetter.dead_letter_id.in_(list(dead_letter_ids))).execute())


def _selected(queue_name: str | None, *columns: Any) -> Any:
    letters = DeadLetter.select(*columns)
    return letters if queue_name is None else letters.where(DeadLetter.queue_name == queue_name)


def _without_history(letter: DeadLetter) -> Message[Any]:
    try:
        message = decode_message(bytes(letter.message))  # keeps the exact JSON text of the arguments
        broker.get_actor(message.actor_name)
    except Exception as error:
        raise NotReplayable(f"dead letter {letter.dead_letter_id} cannot be replayed: {letter.error}") from error
    options = {name: value for name, value in message.options.items() if name not in ATTEMPT_OPTIONS}
    return Message(message.queue_name, message.actor_name, message.args, message.kwargs, options, message.message_id)

"""A dead letter: a message that exhausted its retries, cannot be read, or conflicts with a stored event."""

from collections.abc import Iterable, Mapping
from typing import Any

import peewee

from models.base import Row, now, time


class DeadLetter(Row):
    """A message as it was, for inspection and replay, with the reason why it is a dead letter.

    `dead_letter_id`: the id of the queue entry; derived from event id and digest for a conflict.
    `queue_name`: the queue that the message came from; a replay returns it there.
    `actor_name`, `event_id`, `request_id`: read from the message; null if the message does not have them.
    `attempts`: how often the message was processed. `error`, `traceback`: the last failure.
    `message`: the Dramatiq message, byte for byte.
    `dead_lettered_at`: set by `finish.lua` or `recover.lua` from Redis' clock, for a conflict by persist.
    """

    dead_letter_id = peewee.TextField(primary_key=True)
    queue_name = peewee.TextField()
    actor_name = peewee.TextField(null=True)
    event_id = peewee.UUIDField(null=True)
    request_id = peewee.TextField(null=True)
    attempts = peewee.IntegerField(default=0)
    error = peewee.TextField()
    traceback = peewee.TextField(null=True)
    message = peewee.BlobField()
    dead_lettered_at = time(default=now)

    class Meta:
        table_name = "dead_letters"

    @classmethod
    def add(cls, letters: Iterable[Mapping[str, Any]]) -> None:
        """Store dead letters given by their columns; one whose id is stored already changes nothing."""
        rows = [{name: _storable(value) for name, value in letter.items()} for letter in letters]
        cls.insert_many(rows).on_conflict_ignore().execute()


def _storable(value: Any) -> Any:
    """Replace NUL in a text: PostgreSQL rejects it."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value

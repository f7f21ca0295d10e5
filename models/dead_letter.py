"""Dead letters: messages that used all retries, crashed workers, cannot be decoded, or conflict with stored events."""

from collections.abc import Iterable, Mapping
from typing import Any

import peewee

from models.base import Row, now, time


class DeadLetter(Row):
    """One dead letter: the unchanged message, for inspection and replay, and the reason of its failure.

    `dead_letter_id`: id of the queue entry; for a conflicting duplicate, derived from its event id and digest.
    `queue_name`: queue from which the message was read; a replay returns the message to this queue.
    `actor_name`, `event_id`, `request_id`: read from the message; null if absent from the message.
    `attempts`: number of times that the message was processed. `error`, `traceback`: message and traceback of the last
    failure.
    `message`: the Dramatiq message, byte for byte.
    `dead_lettered_at`: set from the clock of Redis by `finish.lua` or `recover.lua`; for a conflicting duplicate, set
    by persist.
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
        """Store dead letters, each a mapping from column to value; ignore dead letters whose id is already stored."""
        rows = [{name: _storable(value) for name, value in letter.items()} for letter in letters]
        cls.insert_many(rows).on_conflict_ignore().execute()


def _storable(value: Any) -> Any:
    """Return the value with each NUL in a text replaced, because PostgreSQL cannot store NUL."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value

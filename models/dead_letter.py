"""A dead letter: a message that exhausted its retries, or that nobody could read."""

import peewee

from models.base import Row, now, time


class DeadLetter(Row):
    """The whole message as it was, for inspection and replay, with why it died."""

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

"""A leased batch: the messages of one call of an actor, and its outbox."""

from typing import Any, Protocol

from dramatiq.broker import MessageProxy
from dramatiq.message import Message
from dramatiq.middleware import CurrentMessage

from actors.transport.outbox import Outbox


class BatchOwner(Protocol):
    """Consumer that leased a batch. `batch` is the largest number of messages in one of its batches."""

    batch: int

    def settle(self, batch: "Batch") -> None:
        """Acknowledge, isolate or keep the entries of a batch that has ended."""

    def dead_letter(self, batch: "Batch") -> None:
        """Dead-letter the message of a batch that has exhausted its retries."""


class Batch(MessageProxy):
    """Leased queue entries that are processed by one call, as the message that Dramatiq handles."""

    def __init__(self, consumer: BatchOwner, ids: list[str], message: Message[Any], records: list[bytes]) -> None:
        super().__init__(message)
        self.consumer = consumer
        #: The ids of the entries.
        self.ids = ids
        #: One record (see `actors.transport.messages`) for each message; empty for an actor without the option `batch`.
        self.records = records
        self.outbox = Outbox()
        #: The batch failed: run its messages one at a time.
        self.needs_split = False
        #: The worker stopped during the call: the entries stay leased until the consumer releases them.
        self.interrupted = False

    @classmethod
    def merge(cls, batches: "list[Batch]") -> "Batch":
        """Return one batch of the messages of several, which must be of the same actor."""
        first = batches[0]
        if len(batches) == 1:
            return first
        message = first._message.copy(args=tuple([argument for batch in batches for argument in batch.args]))
        ids = [entry_id for batch in batches for entry_id in batch.ids]
        return cls(first.consumer, ids, message, [record for batch in batches for record in batch.records])

    @property
    def is_batch(self) -> bool:
        """Whether it has more than one message."""
        return len(self.records) > 1

    @property
    def unhandled(self) -> bool:
        """Whether it failed and no retry was enqueued: acknowledging it would lose it."""
        return self._exception is not None and not self.outbox.follow_ups

    def __str__(self) -> str:
        # Without the arguments: payloads do not belong in logs.
        return f"{self.actor_name} of {len(self.records)} messages" if self.is_batch else f"{self.actor_name}"


def current_batch() -> Batch | None:
    """Return the batch that this thread is processing, or None outside of an actor."""
    message = CurrentMessage.get_current_message()
    return message if isinstance(message, Batch) else None


def as_batch(message: MessageProxy) -> Batch:
    """Return the message that Dramatiq passes on as the `Batch` that the consumer gave to it."""
    assert isinstance(message, Batch)
    return message

"""Leased batch: the messages of one call of an actor, and the outbox of the call."""

from typing import Any, Protocol

from dramatiq.broker import MessageProxy
from dramatiq.message import Message
from dramatiq.middleware import CurrentMessage

from actors.transport.outbox import Outbox


class BatchOwner(Protocol):
    """Consumer that leased a batch. `batch` is the maximum number of messages in a batch."""

    batch: int

    def settle(self, batch: "Batch") -> None:
        """Acknowledge or isolate the entries of a batch after its call; keep the leases of an interrupted batch."""

    def dead_letter(self, batch: "Batch") -> None:
        """Dead-letter the only message of a batch, after its last retry."""


class Batch(MessageProxy):
    """Leased queue entries that one call of an actor processes; Dramatiq handles them as one message."""

    def __init__(self, consumer: BatchOwner, ids: list[str], message: Message[Any], records: list[bytes]) -> None:
        super().__init__(message)
        self.consumer = consumer
        #: Ids of the queue entries.
        self.ids = ids
        #: One record (see `actors.transport.messages`) for each message; empty for an actor without the option `batch`.
        self.records = records
        self.outbox = Outbox()
        #: Whether the batch failed, so that its messages must run one at a time.
        self.needs_split = False
        #: Whether the worker stopped during the call; the entries then stay leased until the consumer releases them.
        self.interrupted = False

    @classmethod
    def merge(cls, batches: "list[Batch]") -> "Batch":
        """Return one batch with the messages of all `batches`, which must have the same actor."""
        first = batches[0]
        if len(batches) == 1:
            return first
        message = first._message.copy(args=tuple([argument for batch in batches for argument in batch.args]))
        ids = [entry_id for batch in batches for entry_id in batch.ids]
        return cls(first.consumer, ids, message, [record for batch in batches for record in batch.records])

    @property
    def is_batch(self) -> bool:
        """Whether the batch has more than one message."""
        return len(self.records) > 1

    @property
    def unhandled(self) -> bool:
        """Whether the batch failed and its outbox has no retry: an acknowledgement would lose the messages."""
        return self._exception is not None and not self.outbox.follow_ups

    def __str__(self) -> str:
        # The arguments are left out, because logs must not contain payloads.
        return f"{self.actor_name} of {len(self.records)} messages" if self.is_batch else f"{self.actor_name}"


def current_batch() -> Batch | None:
    """Return the batch that this thread is processing, or None outside of an actor."""
    message = CurrentMessage.get_current_message()
    return message if isinstance(message, Batch) else None


def as_batch(message: MessageProxy) -> Batch:
    """Return `message` with the type `Batch`: every message that a consumer passes to Dramatiq is a batch."""
    assert isinstance(message, Batch)
    return message

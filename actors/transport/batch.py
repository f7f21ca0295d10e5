"""A work: one call of one actor, and what leaves with its acknowledgement."""

from typing import TYPE_CHECKING, Any

from dramatiq.broker import MessageProxy
from dramatiq.message import Message
from dramatiq.middleware import CurrentMessage

from actors.transport.outbox import Outbox

if TYPE_CHECKING:
    from actors.transport.consumer import Consumer


class Batch(MessageProxy):
    """The entries of a queue behind one call, and what leaves with their acknowledgement."""

    def __init__(self, consumer: "Consumer", ids: list[str], message: Message[Any], records: list[bytes]) -> None:
        super().__init__(message)
        self.consumer = consumer
        self.ids = ids
        #: Its events as they travel; none of an actor that takes one message at a time.
        self.records = records
        self.outbox = Outbox()
        #: The batch failed: its messages are to be processed one by one.
        self.needs_split = False
        #: The worker stopped in the middle: the messages stay leased until the consumer gives them back.
        self.interrupted = False

    @classmethod
    def merge(cls, batches: "list[Batch]") -> "Batch":
        """One work for the messages of several, all of the same actor."""
        first = batches[0]
        if len(batches) == 1:
            return first
        message = first._message.copy(args=tuple([argument for batch in batches for argument in batch.args]))
        ids = [entry_id for batch in batches for entry_id in batch.ids]
        return cls(first.consumer, ids, message, [record for batch in batches for record in batch.records])

    @property
    def is_batch(self) -> bool:
        return len(self.records) > 1

    @property
    def unhandled(self) -> bool:
        """It failed, and nothing took care of it: to acknowledge it would be to lose it."""
        return self._exception is not None and not self.outbox.follow_ups

    def __str__(self) -> str:
        # Without the arguments: payloads do not belong in logs.
        return f"{self.actor_name} of {len(self.records)} messages" if self.is_batch else f"{self.actor_name}"


def current_batch() -> Batch | None:
    """The work that this thread is processing, if any."""
    message = CurrentMessage.get_current_message()
    return message if isinstance(message, Batch) else None


def as_batch(message: MessageProxy) -> Batch:
    """What our consumers hand out is a batch."""
    assert isinstance(message, Batch)
    return message

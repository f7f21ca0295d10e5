"""Worker of the queue model: leased batches, and the calls of scripts that settle the batches."""

from dataclasses import dataclass, field
from typing import Any

from actors.transport.entry_id import EntryId
from actors.transport.outbox import FollowUp
from support.queue_model import DEAD, ISOLATED, NUMBER, Entry, make_entries, make_message


@dataclass(eq=False)
class Settlement:
    """Call of a script that settles a batch.

    `place` is the place of the entries after the call, or None if the entries are done. `follow_ups` are the entries
    that the call enqueues.
    """

    script: str
    arguments: list[Any]
    place: str | None
    follow_ups: dict[str, Entry] = field(default_factory=dict)


@dataclass(eq=False)
class LeasedBatch:
    """Entries that were leased together, and the call that settles the entries, or None before the first call."""

    queue: str
    lease: str
    bytes_of: dict[str, bytes]
    settlement: Settlement | None = None


@dataclass(eq=False)
class ModelWorker:
    """Consumer of one queue.

    `batches` are the leased batches whose settlement has no reply yet, including the batches of earlier leases.
    """

    queue: str
    lease: str
    batches: list[LeasedBatch] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        return all(batch.lease != self.lease for batch in self.batches)


def make_settlement(batch: LeasedBatch, outcome: str, delay_ms: int) -> Settlement:
    """Return the call for the outcome "done", "retry", "isolate" or "dead".

    A batch that fails is always isolated. A corrupt entry, which does not have exactly one number, is dead-lettered in
    place of a retry.
    """
    ids, queue = list(batch.bytes_of), batch.queue
    numbers = [int(number) for data in batch.bytes_of.values() for number in NUMBER.findall(data)]
    is_batch = len(ids) > 1 or (EntryId.parse(ids[0]).is_bundle and len(numbers) > 1)
    if outcome == "isolate" or (outcome != "done" and is_batch):
        return Settlement("isolate", [ids], ISOLATED)
    if outcome == "dead" or (outcome == "retry" and len(numbers) != 1):
        return Settlement("finish", [[], [(ids[0], batch.bytes_of[ids[0]], "a reason")], {}, []], DEAD)
    if outcome == "retry":
        entries = [make_message(queue, numbers[0], delayed=delay_ms > 0)]
    else:
        entries = list(make_entries("evaluate", numbers, 3)) if queue == "persist" else []
        delay_ms = 0
    follow_ups = [FollowUp(entry.queue, entry_id, data, delay_ms) for entry_id, data, entry in entries]
    return Settlement("finish", [ids, [], {}, follow_ups], None, {entry_id: entry for entry_id, _, entry in entries})

"""A worker of the model: what it holds, and the calls that settle it, as the product's consumer makes them."""

from dataclasses import dataclass, field
from typing import Any

from actors.transport.messages import is_bundle
from support.queue_model import DEAD, ISOLATED, NUMBER, Entry, made, single


@dataclass(eq=False)
class Settlement:
    """A call that settles a batch, and what it changes: the place of its entries, if they stay, and what follows."""

    script: str
    arguments: list[Any]
    place: str | None
    follow_ups: dict[str, Entry] = field(default_factory=dict)


@dataclass(eq=False)
class Batch:
    """Entries that were leased together, and the call that settles them, once it was made."""

    queue: str
    lease: str
    bytes_of: dict[str, bytes]
    call: Settlement | None = None


@dataclass(eq=False)
class Worker:
    """A consumer of one queue, and the works that it has not heard of as settled, those of its former leases too."""

    queue: str
    lease: str
    batches: list[Batch] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        return all(batch.lease != self.lease for batch in self.batches)


def settlement(batch: Batch, outcome: str, delay_ms: int) -> Settlement:
    """The call for an outcome; what fails in company is isolated first."""
    ids, queue = list(batch.bytes_of), batch.queue
    numbers = [int(number) for data in batch.bytes_of.values() for number in NUMBER.findall(data)]
    in_company = len(ids) > 1 or (is_bundle(ids[0]) and len(numbers) > 1)
    if outcome == "isolate" or (outcome != "done" and in_company):
        return Settlement("isolate", ids, ISOLATED)
    if outcome == "dead" or (outcome == "retry" and len(numbers) != 1):
        return Settlement("finish", [0, 1, ids[0], batch.bytes_of[ids[0]], "because", 1, "dead", 1], DEAD)
    if outcome == "retry":
        follow_ups = [single(queue, numbers[0], delayed=delay_ms > 0)]
    else:
        follow_ups = list(made("evaluate", numbers, 3)) if queue == "persist" else []
        delay_ms = 0
    arguments = [len(ids), *ids, 0, 0]
    if follow_ups:
        arguments += [follow_ups[0][2].queue, len(follow_ups)]
        arguments += [part for entry_id, data, _ in follow_ups for part in (entry_id, data, delay_ms)]
    return Settlement("finish", arguments, None, {entry_id: entry for entry_id, _, entry in follow_ups})

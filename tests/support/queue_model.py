"""What the queues ought to hold, in plain Python, and what they do hold: the model that the Lua scripts are held to.

A message is known by its number, which its bytes tell wherever they are: a step of a pipeline is done with it once.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import redis
from dramatiq.message import Message

from actors.transport.messages import bundles, decode_bundle, decode_unopened, is_bundle, line, new_id

NAMESPACE = "eventpulse"
QUEUES = ("persist", "evaluate")
MAX_CRASHES = 3
NUMBER = re.compile(rb'"n": ?(\d+)')

#: Where an entry is: in a list of these names, or in the lease of this name.
WAITING, ISOLATED, DELAYED, DEAD = "waiting", "isolated", "delayed", "dead"


@dataclass(eq=False)
class Entry:
    """An entry of a queue. `pieces`: for each message that it will be taken apart into, the numbers in its bytes.

    `size` is what it counts for until then.
    """

    queue: str
    pieces: list[tuple[int, ...]]
    size: int = 1
    place: str = WAITING
    crashes: int = 0
    due: bool = False
    spoiled: bool = False

    @property
    def numbers(self) -> list[int]:
        return [number for piece in self.pieces for number in piece]


def is_isolated(entry_id: str, entry: Entry) -> bool:
    """Whether it is to be processed alone: two workers died with it, or it was taken apart."""
    return entry.crashes >= 2 or "." in entry_id


@dataclass(eq=False)
class Ledger:
    """Every entry that is somewhere, and every message that a queue is done with."""

    entries: dict[str, Entry] = field(default_factory=dict)
    done: set[tuple[str, int]] = field(default_factory=set)
    known: set[tuple[str, int]] = field(default_factory=set)
    accepted: int = 0
    died: int = 0

    def of(self, queue: str, *places: str) -> dict[str, Entry]:
        return {key: entry for key, entry in self.entries.items() if entry.queue == queue and entry.place in places}

    def alive(self, queue: str) -> dict[str, Entry]:
        return {key: entry for key, entry in self.entries.items() if entry.queue == queue and entry.place != DEAD}

    def depth(self) -> int:
        return sum(entry.size for queue in QUEUES for entry in self.alive(queue).values())

    def add(self, made: dict[str, Entry]) -> None:
        self.entries |= made
        self.known |= {(entry.queue, number) for entry in made.values() for number in entry.numbers}

    def finish(self, entry_id: str) -> None:
        entry = self.entries.pop(entry_id)
        told = {(entry.queue, number) for number in entry.numbers}
        assert not told & self.done, f"done twice: {told & self.done}"
        self.done |= told

    def bury(self, entry_id: str) -> None:
        self.entries[entry_id].place = DEAD
        self.entries[entry_id].crashes = 0
        self.died += 1

    def split_bundle(self, bundle_id: str) -> None:
        bundle = self.entries.pop(bundle_id)
        crashes = min(bundle.crashes, 1) if bundle.size > 1 else bundle.crashes
        for place, piece in enumerate(bundle.pieces, start=1):
            part = Entry(bundle.queue, [piece], 1, ISOLATED, crashes, spoiled=bundle.spoiled)
            self.entries[f"{place}.{bundle_id}"] = part

    def crash(self, leases: set[str]) -> tuple[int, int]:
        """Take back what was leased; returns how many messages run again, and how many are dead."""
        again = dead = 0
        for entry_id, entry in self.entries.items():
            if entry.place in leases:
                entry.crashes += 1
                if entry.crashes < MAX_CRASHES:
                    entry.place = ISOLATED if is_isolated(entry_id, entry) else WAITING
                    again += entry.size
                else:
                    self.bury(entry_id)
                    dead += 1
        return again, dead

    def assert_nothing_is_lost_or_double(self) -> None:
        told = Counter((entry.queue, number) for entry in self.entries.values() for number in entry.numbers)
        told.update(self.done)
        assert set(told) == self.known
        assert set(told.values()) <= {1}


def made(queue: str, numbers: Sequence[int], largest: int) -> Iterator[tuple[str, bytes, Entry]]:
    """Bundles of at most `largest` messages, as the product makes them."""
    parts = bundles(queue, [line(b'{"n":%d}' % number, None) for number in numbers], largest)
    for start, (entry_id, data) in zip(range(0, len(numbers), largest), parts, strict=True):
        pieces = [(number,) for number in numbers[start : start + largest]]
        yield entry_id, data, Entry(queue, pieces, len(pieces))


def single(queue: str, number: int, delayed: bool) -> tuple[str, bytes, Entry]:
    """A message that is an entry of its own, as Dramatiq makes it."""
    data = Message(queue, queue, ({"n": number},), {}, {}).encode()
    return new_id(), data, Entry(queue, [(number,)], place=DELAYED if delayed else WAITING)


def read(entry_id: str, data: bytes) -> list[int]:
    """The numbers in what a worker makes of an entry. Raises `ValueError` for what it cannot read."""
    message = decode_bundle(entry_id, data)[0] if is_bundle(entry_id) else decode_unopened(data)
    return [int(number) for event in message.args for number in NUMBER.findall(bytes(event))]


def assert_holds(client: redis.Redis, queue: str, entries: dict[str, Entry]) -> None:
    """Every entry of the queue is in its one place in Redis, with its bytes, and there is nothing else."""
    full = f"{NAMESPACE}:{queue}"
    leases = [key.decode() for key in client.keys(f"{NAMESPACE}:__acks__.{queue}|*")]
    pipe = client.pipeline()
    pipe.lrange(full, 0, -1).lrange(f"{full}.isolated", 0, -1)
    pipe.zrange(f"{full}.delayed", 0, -1).zrange(f"{full}.XQ", 0, -1)
    for lease in leases:
        pipe.smembers(lease)
    pipe.hgetall(f"{full}.msgs").hgetall(f"{full}.XQ.msgs").hgetall(f"{full}.crashes")
    pipe.hkeys(f"{full}.XQ.why").get(f"{full}.count")
    *held, living, dead, crashes, reasons, count = pipe.execute()

    places = [WAITING, ISOLATED, DELAYED, DEAD, *(lease.partition("__acks__.")[2] for lease in leases)]
    found = [(entry_id.decode(), place) for place, ids in zip(places, held, strict=True) for entry_id in ids]
    assert sorted(found) == sorted((entry_id, entry.place) for entry_id, entry in entries.items())
    alive = {entry_id for entry_id, entry in entries.items() if entry.place != DEAD}
    assert {entry_id.decode() for entry_id in living} == alive
    assert {entry_id.decode() for entry_id in dead} == {entry_id.decode() for entry_id in reasons}
    assert {entry_id.decode() for entry_id in dead} == entries.keys() - alive
    for entry_id, data in [*living.items(), *dead.items()]:
        assert sorted(map(int, NUMBER.findall(data))) == sorted(entries[entry_id.decode()].numbers)
    assert int(count or 0) == sum(entries[entry_id].size for entry_id in alive)
    told = {entry_id.decode(): int(times) for entry_id, times in crashes.items()}
    assert told == {entry_id: entry.crashes for entry_id, entry in entries.items() if entry.crashes}


def assert_counted(client: redis.Redis, ledger: Ledger) -> None:
    """What is shown as the work of each minute is what happened."""
    counted: Counter[bytes] = Counter()
    for minute in client.keys(f"{NAMESPACE}:counts:*"):
        counted.update({name: int(amount) for name, amount in client.hgetall(minute).items()})
    assert (counted[b"accepted"], counted[b"dead"]) == (ledger.accepted, ledger.died)

"""Model of the queues in Python, with which the results of the Lua scripts are compared.

The bytes of each message contain a number. Each queue must settle each number once.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import redis
from dramatiq.message import Message

from actors.transport.entry_id import EntryId, new_id
from actors.transport.messages import decode_bundle, decode_message, make_bundles, make_records
from eventpulse.redis_keys import KEY_PREFIX

QUEUES = ("persist", "evaluate")
MAX_CRASHES = 3
NUMBER = re.compile(rb'"n": ?(\d+)')

CORRUPTIONS = ("head", "last record", "no line breaks", "another line")

#: Places of an entry that is not leased. The place of a leased entry is the name of its lease.
WAITING, ISOLATED, DELAYED, DEAD = "waiting", "isolated", "delayed", "dead"


@dataclass(eq=False)
class Entry:
    """Entry of a queue.

    `pieces` contains the numbers in the bytes of each message into which the entry can be split. `size` is the number
    of messages that Redis counts for the entry before a split.
    """

    queue: str
    pieces: list[tuple[int, ...]]
    size: int = 1
    place: str = WAITING
    crashes: int = 0
    is_due: bool = False
    is_corrupt: bool = False

    @property
    def numbers(self) -> list[int]:
        return [number for piece in self.pieces for number in piece]


def is_isolated(entry_id: str, entry: Entry) -> bool:
    """Return whether the entry is processed alone: after two crashes, or as a message of a bundle that was split."""
    return entry.crashes >= 2 or EntryId.parse(entry_id).position is not None


@dataclass(eq=False)
class Model:
    """State of the queues: all entries with their places, and the numbers that each queue has settled.

    `known` contains all numbers that were ever added to each queue.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    settled: set[tuple[str, int]] = field(default_factory=set)
    known: set[tuple[str, int]] = field(default_factory=set)
    accepted: int = 0
    dead_lettered: int = 0

    def entries_in(self, queue: str, *places: str) -> dict[str, Entry]:
        return {key: entry for key, entry in self.entries.items() if entry.queue == queue and entry.place in places}

    def alive(self, queue: str) -> dict[str, Entry]:
        """Return the entries of a queue that are not dead letters."""
        return {key: entry for key, entry in self.entries.items() if entry.queue == queue and entry.place != DEAD}

    def depth(self) -> int:
        return sum(entry.size for queue in QUEUES for entry in self.alive(queue).values())

    def add(self, entries: dict[str, Entry]) -> None:
        self.entries |= entries
        self.known |= {(entry.queue, number) for entry in entries.values() for number in entry.numbers}

    def finish(self, entry_id: str) -> None:
        entry = self.entries.pop(entry_id)
        numbers = {(entry.queue, number) for number in entry.numbers}
        assert not numbers & self.settled, f"settled twice: {numbers & self.settled}"
        self.settled |= numbers

    def dead_letter(self, entry_id: str) -> None:
        self.entries[entry_id].place = DEAD
        self.entries[entry_id].crashes = 0
        self.dead_lettered += 1

    def split_bundle(self, bundle_id: str) -> int:
        """Replace a bundle with its messages, and return the number of messages."""
        bundle = self.entries.pop(bundle_id)
        crashes = min(bundle.crashes, 1) if bundle.size > 1 else bundle.crashes
        for position, piece in enumerate(bundle.pieces, start=1):
            part = Entry(bundle.queue, [piece], 1, ISOLATED, crashes, is_corrupt=bundle.is_corrupt)
            self.entries[f"{position}.{bundle_id}"] = part
        return len(bundle.pieces)

    def crash(self, leases: set[str]) -> tuple[int, int]:
        """Requeue or dead-letter the entries of these leases.

        Return the number of requeued messages and the number of dead-lettered entries.
        """
        requeued = dead = 0
        for entry_id, entry in self.entries.items():
            if entry.place in leases:
                entry.crashes += 1
                if entry.crashes < MAX_CRASHES:
                    entry.place = ISOLATED if is_isolated(entry_id, entry) else WAITING
                    requeued += entry.size
                else:
                    self.dead_letter(entry_id)
                    dead += 1
        return requeued, dead

    def assert_nothing_is_lost_or_repeated(self) -> None:
        numbers = Counter((entry.queue, number) for entry in self.entries.values() for number in entry.numbers)
        numbers.update(self.settled)
        assert set(numbers) == self.known
        assert set(numbers.values()) <= {1}


def make_entries(queue: str, numbers: Sequence[int], largest: int) -> Iterator[tuple[str, bytes, Entry]]:
    """Yield the id, the bytes and the model of each bundle.

    There is one message for each of `numbers`, and a bundle has at most `largest` messages.
    """
    bundles = make_bundles(queue, make_records([b'{"n":%d}' % number for number in numbers], {}), largest)
    for start, (entry_id, data) in zip(range(0, len(numbers), largest), bundles, strict=True):
        pieces = [(number,) for number in numbers[start : start + largest]]
        yield entry_id, data, Entry(queue, pieces, len(pieces))


def make_message(queue: str, number: int, delayed: bool) -> tuple[str, bytes, Entry]:
    """Return the id, the bytes in the format of plain Dramatiq, and the model of a message."""
    data = Message(queue, queue, ({"n": number},), {}, {}).encode()
    return new_id(), data, Entry(queue, [(number,)], place=DELAYED if delayed else WAITING)


def decode_numbers(entry_id: str, data: bytes) -> list[int]:
    """Return the numbers in the arguments that a worker decodes from an entry.

    Raises `ValueError` if the entry is corrupt.
    """
    message = decode_bundle(entry_id, data)[0] if EntryId.parse(entry_id).is_bundle else decode_message(data)
    return [int(number) for argument in message.args for number in NUMBER.findall(bytes(argument))]


def corrupt(entry_id: str, entry: Entry, data: bytes, how: str) -> bytes:
    """Return bytes that no worker can decode, with the numbers of an entry; update `entry`, the model of the entry."""
    entry.is_corrupt = True
    if how == "no line breaks" and EntryId.parse(entry_id).is_bundle:
        entry.pieces = [tuple(entry.numbers)]
        return data.replace(b"\n", b" ")
    if how == "another line" and b"\n" in data:
        entry.pieces = [*entry.pieces, ()]
        return data + b"\n\xff"
    if how == "last record" and b"\n" in data:
        return b"\n\xff".join(data.rsplit(b"\n", 1))
    return b"\xff" + data


def assert_redis_holds(client: redis.Redis, queue: str, entries: dict[str, Entry]) -> None:
    """Assert that Redis contains exactly these entries of the queue, each in its place and with its numbers."""
    full = f"{KEY_PREFIX}:{queue}"
    leases = [key.decode() for key in client.keys(f"{KEY_PREFIX}:__acks__.{queue}|*")]
    pipe = client.pipeline()
    pipe.lrange(full, 0, -1).lrange(f"{full}.isolated", 0, -1)
    pipe.zrange(f"{full}.delayed", 0, -1).zrange(f"{full}.XQ", 0, -1)
    for lease in leases:
        pipe.smembers(lease)
    pipe.hgetall(f"{full}.msgs").hgetall(f"{full}.XQ.msgs").hgetall(f"{full}.crashes")
    pipe.hkeys(f"{full}.XQ.why").get(f"{full}.count")
    *members, alive, dead, crashes, reasons, count = pipe.execute()

    places = [WAITING, ISOLATED, DELAYED, DEAD, *(lease.partition("__acks__.")[2] for lease in leases)]
    stored = [(entry_id.decode(), place) for place, ids in zip(places, members, strict=True) for entry_id in ids]
    assert sorted(stored) == sorted((entry_id, entry.place) for entry_id, entry in entries.items())
    expected_alive = {entry_id for entry_id, entry in entries.items() if entry.place != DEAD}
    assert {entry_id.decode() for entry_id in alive} == expected_alive
    assert {entry_id.decode() for entry_id in dead} == {entry_id.decode() for entry_id in reasons}
    assert {entry_id.decode() for entry_id in dead} == entries.keys() - expected_alive
    for entry_id, data in [*alive.items(), *dead.items()]:
        assert sorted(map(int, NUMBER.findall(data))) == sorted(entries[entry_id.decode()].numbers)
    assert int(count or 0) == sum(entries[entry_id].size for entry_id in expected_alive)
    stored_crashes = {entry_id.decode(): int(times) for entry_id, times in crashes.items()}
    assert stored_crashes == {entry_id: entry.crashes for entry_id, entry in entries.items() if entry.crashes}


def assert_counters_match(client: redis.Redis, model: Model) -> None:
    """Assert that the sums of the counters in Redis over all minutes equal the counters of the model."""
    counted: Counter[bytes] = Counter()
    for minute in client.keys(f"{KEY_PREFIX}:counts:*"):
        counted.update({name: int(amount) for name, amount in client.hgetall(minute).items()})
    assert (counted[b"accepted"], counted[b"dead"]) == (model.accepted, model.dead_lettered)

"""What may happen to queues, as a machine of hypothesis that does it in any order, at Redis and in the model alike."""

import sys
from itertools import count
from time import time
from typing import Any

import hypothesis.stateful as machines
import redis
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from actors.transport import scripts
from actors.transport.messages import is_bundle
from support.model_worker import Batch, Settlement, Worker, settlement
from support.queue_model import (
    DEAD,
    DELAYED,
    ISOLATED,
    MAX_CRASHES,
    NAMESPACE,
    QUEUES,
    WAITING,
    Entry,
    Ledger,
    assert_counted,
    assert_holds,
    is_isolated,
    made,
    read,
    single,
)

HOUR_MS = 3_600_000
LONG_AGO_MS = 1
HEARTBEATS, LAST_RECOVERY, GRACE = (f"{NAMESPACE}:__{name}__" for name in ("heartbeats", "last_recovery", "grace"))
WHICH = st.integers(0, 2)  # of the workers
HIGH_WATER_MARKS = st.sampled_from([0, 4, 10**6, 10**6, 10**6])


class Queues(machines.RuleBasedStateMachine):
    """Two queues: what the first is done with follows in the second."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.client, self.scripts = client, scripts.load_queue_scripts()
        self.ledger, self.numbers, self.leases = Ledger(), count(), count(1)
        self.workers = [self.worker(queue) for queue in (*QUEUES, QUEUES[0])]
        self.grace = False
        self.client.flushdb()
        self.client.set(LAST_RECOVERY, int(time() * 1000))

    def worker(self, queue: str) -> Worker:
        return Worker(queue, f"{queue}|worker.{next(self.leases)}")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.scripts[script](self.client, [NAMESPACE], arguments)

    @rule(messages=st.integers(1, 9), largest=st.integers(1, 4), most=HIGH_WATER_MARKS, reply_lost=st.booleans())
    def accept(self, messages: int, largest: int, most: int, reply_lost: bool) -> None:
        entries = list(made("persist", [next(self.numbers) for _ in range(messages)], largest))
        arguments = ["persist", most, 100, *(part for entry_id, data, _ in entries for part in (entry_id, data))]
        refused = self.ledger.depth() >= most
        assert self.run("accept", *arguments) == (-1 if refused else messages)
        if not refused:
            self.ledger.add({entry_id: entry for entry_id, _, entry in entries})
            self.ledger.accepted += messages
            if reply_lost:
                assert self.run("accept", *arguments) in (0, -1)

    @rule(queue=st.sampled_from(QUEUES), delay=st.sampled_from([0, HOUR_MS]))
    def enqueue(self, queue: str, delay: int) -> None:
        entry_id, data, entry = single(queue, next(self.numbers), delayed=delay > 0)
        self.run("enqueue", queue, entry_id, data, delay)
        self.ledger.add({entry_id: entry})

    @rule(which=st.integers(0, 99))
    def let_time_pass(self, which: int) -> None:
        """For one that is delayed: it is due now."""
        if delayed := [pair for queue in QUEUES for pair in self.ledger.of(queue, DELAYED).items()]:
            self.fall_due(*delayed[which % len(delayed)])

    def fall_due(self, entry_id: str, entry: Entry) -> None:
        self.client.zadd(f"{NAMESPACE}:{entry.queue}.delayed", {entry_id: LONG_AGO_MS})
        entry.due = True

    @rule(which=st.lists(WHICH, min_size=1), most=st.sampled_from([0, 1, 2, 5, 100, 100]), each_alone=st.booleans())
    def fetch(self, which: list[int], most: int, each_alone: bool) -> None:
        for worker in map(self.workers.__getitem__, which):
            taken = self.take(worker, most)
            shares = [{entry_id: data} for entry_id, data in taken.items()] if each_alone else [taken] if taken else []
            worker.batches += [Batch(worker.queue, worker.lease, share) for share in shares]

    def take(self, worker: Worker, most: int) -> dict[str, bytes]:
        mode, _, *found = self.run("fetch", worker.queue, worker.lease, most, int(worker.is_idle))
        taken = dict(zip(map(bytes.decode, found[::2]), found[1::2], strict=True))
        self.expect_fetched(worker, most, mode, list(taken))
        for entry_id, data in taken.items():
            entry = self.ledger.entries[entry_id]
            assert entry.spoiled or read(entry_id, data) == entry.numbers
            entry.place = worker.lease
        return taken

    def expect_fetched(self, worker: Worker, most: int, mode: int, taken: list[str]) -> None:
        for entry in self.ledger.of(worker.queue, DELAYED).values():
            if entry.due:
                entry.place, entry.due = WAITING, False
        isolated = self.ledger.of(worker.queue, ISOLATED)
        waiting = self.ledger.of(worker.queue, WAITING)
        if most and isolated and not worker.is_idle:
            assert (mode, taken) == (2, [])
        elif most and isolated:
            (entry_id,) = taken
            if entry_id not in isolated:
                self.ledger.split_bundle(entry_id.partition(".")[2])
            assert mode == 1
            assert not is_bundle(entry_id)
            assert entry_id in self.ledger.of(worker.queue, ISOLATED)
        else:
            assert mode == 0
            assert waiting.keys() >= set(taken)
            assert bool(taken) == bool(most and waiting)
            assert len(taken) == 1 or sum(waiting[entry_id].size for entry_id in taken) <= most

    @rule(
        which=WHICH,
        nth=st.integers(0, 9),
        outcome=st.sampled_from(["done", "done", "retry", "isolate", "dead"]),
        delay_ms=st.sampled_from([0, HOUR_MS]),
        reply_lost=st.booleans(),
    )
    def settle(self, which: int, nth: int, outcome: str, delay_ms: int, reply_lost: bool) -> None:
        """Settle a work, which its worker holds on to until it has the reply; the lease may be lost by then."""
        if batches := self.workers[which].batches:
            batch = batches[nth % len(batches)]
            batch.call = batch.call or settlement(batch, outcome, delay_ms)
            self.make(batch.call, batch)
            if not reply_lost:
                batches.remove(batch)

    def make(self, call: Settlement, work: Batch) -> None:
        ids = list(work.bytes_of)
        entries = self.ledger.entries
        held = [entry_id for entry_id in ids if entry_id in entries and entries[entry_id].place == work.lease]
        assert held in ([], ids)
        assert self.run(call.script, work.queue, work.lease, *call.arguments) == len(held)
        for entry_id in held:
            if call.place == ISOLATED:
                entries[entry_id].place = ISOLATED
            elif call.place == DEAD:
                self.ledger.bury(entry_id)
            elif any(entry.queue == work.queue for entry in call.follow_ups.values()):
                del entries[entry_id]
            else:
                self.ledger.finish(entry_id)
        if held:
            self.ledger.add(call.follow_ups)

    @rule(which=WHICH, most=st.sampled_from([0, 100]), reply_lost=st.booleans())
    def stop(self, which: int, most: int, reply_lost: bool) -> None:
        """In order: what is held is given back, and under suspicion still if it was before; another takes over."""
        worker = self.workers[which]
        self.take(worker, most)
        entries = self.ledger.of(worker.queue, worker.lease)
        assert self.run("release", worker.queue, worker.lease) == sum(entry.size for entry in entries.values())
        for entry_id, entry in entries.items():
            entry.place = ISOLATED if is_isolated(entry_id, entry) else WAITING
        if reply_lost:
            assert self.run("release", worker.queue, worker.lease) == 0
        worker.lease = self.worker(worker.queue).lease

    @rule(which=WHICH)
    def fall_silent(self, which: int) -> None:
        """It died, or is only slow: then it calls again, and knows nothing of what happens meanwhile."""
        self.client.zadd(HEARTBEATS, {self.workers[which].lease: LONG_AGO_MS}, xx=True)

    @rule(everybody_is_late=st.booleans())
    def maintain(self, everybody_is_late: bool) -> None:
        """Take back the leases of those who fell silent, or of all; unless everybody is given time to call."""
        self.grace |= not everybody_is_late and not self.client.exists(LAST_RECOVERY)
        beats = dict(self.client.zrange(HEARTBEATS, 0, -1, withscores=True))
        again, dead = self.run("recover", 0 if everybody_is_late else HOUR_MS, MAX_CRASHES, HOUR_MS)
        lost = beats.keys() - set(self.client.zrange(HEARTBEATS, 0, -1))
        late = {lease for lease, beat in beats.items() if everybody_is_late or beat == LONG_AGO_MS}
        assert lost == (set() if self.grace else late)
        assert (again, dead) == self.ledger.crash({lease.decode() for lease in lost})

    @rule(over=st.booleans())
    def be_away(self, over: bool) -> None:
        """Redis did not answer for long, or that was a while ago."""
        self.client.delete(GRACE if over else LAST_RECOVERY)
        self.grace = self.grace and not over

    @rule(queue=st.sampled_from(QUEUES), times=st.integers(1, 4))
    def die_one_after_another(self, queue: str, times: int) -> None:
        """Each worker takes what is next, and dies with it."""
        for _ in range(times):
            self.take(self.worker(queue), 1)
            self.maintain(everybody_is_late=True)

    @rule()
    def forget_the_scripts(self) -> None:
        self.client.script_flush()

    @rule(which=st.integers(0, 99), how=st.sampled_from(["head", "last line", "one line", "another line"]))
    def spoil(self, which: int, how: str) -> None:
        """Put bytes that nobody can read in the place of an entry's; they still tell the numbers of its messages."""
        living = [pair for queue in QUEUES for pair in self.ledger.alive(queue).items()]
        if not living:
            return
        entry_id, entry = living[which % len(living)]
        key = f"{NAMESPACE}:{entry.queue}.msgs"
        data = self.client.hget(key, entry_id)
        if how == "one line" and is_bundle(entry_id):
            data = data.replace(b"\n", b" ")
            entry.pieces = [tuple(entry.numbers)]
        elif how == "another line" and b"\n" in data:
            data += b"\n\xff"
            entry.pieces = [*entry.pieces, ()]
        elif how == "last line" and b"\n" in data:
            data = b"\n\xff".join(data.rsplit(b"\n", 1))
        else:
            data = b"\xff" + data
        self.client.hset(key, entry_id, data)
        entry.spoiled = True

    @invariant()
    def redis_holds_what_the_model_does(self) -> None:
        for queue in QUEUES:
            entries = {key: entry for key, entry in self.ledger.entries.items() if entry.queue == queue}
            assert_holds(self.client, queue, entries)
        self.ledger.assert_nothing_is_lost_or_double()

    def teardown(self) -> None:
        """Whatever happened, workers that do their work leave nothing behind."""
        if sys.exc_info()[0] is not None:  # a step failed, and that is to be told
            return
        self.be_away(over=True)
        self.maintain(everybody_is_late=True)
        for queue in QUEUES:
            for entry_id, entry in self.ledger.of(queue, DELAYED).items():
                self.fall_due(entry_id, entry)
            worker = self.worker(queue)
            while self.ledger.alive(queue):
                work = Batch(queue, worker.lease, self.take(worker, 5))
                spoiled = any(self.ledger.entries[entry_id].spoiled for entry_id in work.bytes_of)
                self.make(settlement(work, "dead" if spoiled else "done", 0), work)
        self.redis_holds_what_the_model_does()
        assert_counted(self.client, self.ledger)

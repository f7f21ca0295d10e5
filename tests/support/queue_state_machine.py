"""Hypothesis state machine that calls the queue scripts in any order and compares Redis with the queue model."""

import sys
from itertools import count
from time import time
from typing import Any

import hypothesis.stateful as machines
import redis
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from actors.transport import consumer, scripts
from actors.transport.entry_id import EntryId
from actors.transport.messages import split_bundle
from eventpulse.redis_keys import KEY_PREFIX
from support.model_worker import LeasedBatch, ModelWorker, Settlement, make_settlement
from support.queue_model import (
    CORRUPTIONS,
    DEAD,
    DELAYED,
    ISOLATED,
    MAX_CRASHES,
    QUEUES,
    WAITING,
    Entry,
    Model,
    assert_counters_match,
    assert_redis_holds,
    corrupt,
    decode_numbers,
    is_isolated,
    make_entries,
    make_message,
)

HOUR_MS, LONG_AGO_MS = 3_600_000, 1
HEARTBEATS, LAST_RECOVERY, GRACE = (f"{KEY_PREFIX}:__{name}__" for name in ("heartbeats", "last_recovery", "grace"))
WORKER_INDEX = st.integers(0, 2)
MAX_BACKLOGS = st.sampled_from([0, 4, 10**6, 10**6, 10**6])


class Queues(machines.RuleBasedStateMachine):
    """State machine of two queues; a message that is settled in `persist` is enqueued in `evaluate`."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.client, self.scripts = client, scripts.load_queue_scripts()
        self.model, self.numbers, self.leases = Model(), count(), count(1)
        self.workers = [self.make_worker(queue) for queue in (*QUEUES, QUEUES[0])]
        self.is_grace_period = False
        self.client.flushdb()
        self.client.set(LAST_RECOVERY, int(time() * 1000))

    def make_worker(self, queue: str) -> ModelWorker:
        return ModelWorker(queue, f"{queue}|worker.{next(self.leases)}")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.scripts[script](self.client, [KEY_PREFIX], [scripts.encode_arguments(arguments)])

    @rule(messages=st.integers(1, 9), largest=st.integers(1, 4), max_backlog=MAX_BACKLOGS, reply_lost=st.booleans())
    def accept(self, messages: int, largest: int, max_backlog: int, reply_lost: bool) -> None:
        entries = list(make_entries("persist", [next(self.numbers) for _ in range(messages)], largest))
        arguments = [scripts.encode_arguments(["persist", QUEUES, max_backlog, 100])]
        arguments += [part for entry_id, data, _ in entries for part in (entry_id.encode(), data)]
        rejected = self.model.depth() >= max_backlog
        assert self.scripts["accept"](self.client, [KEY_PREFIX], arguments) == (-1 if rejected else messages)
        if not rejected:
            self.model.add({entry_id: entry for entry_id, _, entry in entries})
            self.model.accepted += messages
            if reply_lost:
                assert self.scripts["accept"](self.client, [KEY_PREFIX], arguments) in (0, -1)

    @rule(queue=st.sampled_from(QUEUES), delay_ms=st.sampled_from([0, HOUR_MS]))
    def enqueue(self, queue: str, delay_ms: int) -> None:
        entry_id, data, entry = make_message(queue, next(self.numbers), delayed=delay_ms > 0)
        assert self.run("enqueue", queue, entry_id, data, delay_ms) == entry.size
        self.model.add({entry_id: entry})

    @rule(nth=st.integers(0, 99))
    def make_a_delayed_message_due(self, nth: int) -> None:
        if delayed := [pair for queue in QUEUES for pair in self.model.entries_in(queue, DELAYED).items()]:
            self.make_due(*delayed[nth % len(delayed)])

    def make_due(self, entry_id: str, entry: Entry) -> None:
        self.client.zadd(f"{KEY_PREFIX}:{entry.queue}.delayed", {entry_id: LONG_AGO_MS})
        entry.is_due = True

    @rule(
        indexes=st.lists(WORKER_INDEX, min_size=1),
        max_messages=st.sampled_from([0, 1, 2, 5, 100, 100]),
        separately=st.booleans(),
        crash_before_split=st.booleans(),
    )
    def fetch(self, indexes: list[int], max_messages: int, separately: bool, crash_before_split: bool) -> None:
        """Lease entries, which are settled together or separately."""
        for worker in map(self.workers.__getitem__, indexes):
            leased = self.lease(worker, max_messages, splits=not crash_before_split)
            shares = [{entry_id: data} for entry_id, data in leased.items()] if separately else [leased]
            worker.batches += [LeasedBatch(worker.queue, worker.lease, share) for share in shares if share]

    def lease(self, worker: ModelWorker, max_messages: int, splits: bool = True) -> dict[str, bytes]:
        """Call the script `fetch` until no bundle has to be split; return the bytes of the leased entries by id."""
        while True:
            state, _, *flat = self.run("fetch", worker.queue, worker.lease, max_messages, worker.is_idle)
            entries = dict(zip(map(bytes.decode, flat[::2]), flat[1::2], strict=True))
            self.check_fetched(worker, max_messages, state, list(entries))
            if state != consumer.SPLIT_FIRST:
                break
            if not splits:
                return {}
            self.split(worker.queue, *next(iter(entries.items())))
        for entry_id, data in entries.items():
            entry = self.model.entries[entry_id]
            assert entry.is_corrupt or decode_numbers(entry_id, data) == entry.numbers
            entry.place = worker.lease
        return entries

    def split(self, queue: str, bundle_id: str, data: bytes) -> None:
        parts = split_bundle(bundle_id, data)
        assert self.run("split", queue, bundle_id, parts) == self.model.split_bundle(bundle_id)
        assert self.run("split", queue, bundle_id, parts) == 0, "a second call split the bundle again"

    def check_fetched(self, worker: ModelWorker, max_messages: int, state: int, ids: list[str]) -> None:
        for entry in self.model.entries_in(worker.queue, DELAYED).values():
            if entry.is_due:
                entry.place, entry.is_due = WAITING, False
        isolated = self.model.entries_in(worker.queue, ISOLATED)
        waiting = self.model.entries_in(worker.queue, WAITING)
        if max_messages and isolated and not worker.is_idle:
            assert (state, ids) == (consumer.DRAIN_FIRST, [])
        elif max_messages and isolated:
            (entry_id,) = ids
            assert entry_id in isolated
            assert state == (consumer.SPLIT_FIRST if EntryId.parse(entry_id).is_bundle else consumer.ISOLATED)
        else:
            assert state == consumer.READY
            assert waiting.keys() >= set(ids)
            assert bool(ids) == bool(max_messages and waiting)
            assert len(ids) == 1 or sum(waiting[entry_id].size for entry_id in ids) <= max_messages

    @rule(
        index=WORKER_INDEX,
        nth=st.integers(0, 9),
        outcome=st.sampled_from(["done", "done", "retry", "isolate", "dead"]),
        delay_ms=st.sampled_from([0, HOUR_MS]),
        reply_lost=st.booleans(),
    )
    def settle(self, index: int, nth: int, outcome: str, delay_ms: int, reply_lost: bool) -> None:
        """Settle a batch. If `reply_lost`, the worker may repeat the call later, even after its lease was recovered."""
        if batches := self.workers[index].batches:
            batch = batches[nth % len(batches)]
            batch.settlement = batch.settlement or make_settlement(batch, outcome, delay_ms)
            self.call(batch.settlement, batch)
            if not reply_lost:
                batches.remove(batch)

    def call(self, settlement: Settlement, batch: LeasedBatch) -> None:
        ids, entries = list(batch.bytes_of), self.model.entries
        leased = [entry_id for entry_id in ids if entry_id in entries and entries[entry_id].place == batch.lease]
        assert leased in ([], ids)
        assert self.run(settlement.script, batch.queue, batch.lease, *settlement.arguments) == len(leased)
        for entry_id in leased:
            if settlement.place == ISOLATED:
                entries[entry_id].place = ISOLATED
            elif settlement.place == DEAD:
                self.model.dead_letter(entry_id)
            elif any(entry.queue == batch.queue for entry in settlement.follow_ups.values()):
                del entries[entry_id]  # the number is in the retry, so it is not settled yet
            else:
                self.model.finish(entry_id)
        if leased:
            self.model.add(settlement.follow_ups)

    @rule(index=WORKER_INDEX, max_messages=st.sampled_from([0, 100]), reply_lost=st.booleans())
    def stop_in_order(self, index: int, max_messages: int, reply_lost: bool) -> None:
        """Release the lease of a worker, and give the worker a new lease. Isolated entries remain isolated."""
        worker = self.workers[index]
        self.lease(worker, max_messages)
        entries = self.model.entries_in(worker.queue, worker.lease)
        assert self.run("release", worker.queue, worker.lease) == sum(entry.size for entry in entries.values())
        for entry_id, entry in entries.items():
            entry.place = ISOLATED if is_isolated(entry_id, entry) else WAITING
        if reply_lost:
            assert self.run("release", worker.queue, worker.lease) == 0
        worker.lease = self.make_worker(worker.queue).lease

    @rule(index=WORKER_INDEX)
    def expire_heartbeat(self, index: int) -> None:
        """Expire the heartbeat of a worker that has crashed, or that is slow and may call again after a recovery."""
        self.client.zadd(HEARTBEATS, {self.workers[index].lease: LONG_AGO_MS}, xx=True)

    @rule(all_expired=st.booleans())
    def recover(self, all_expired: bool) -> None:
        """Recover the leases of expired consumers, or of all consumers; in a grace period no lease is recovered."""
        self.is_grace_period |= not all_expired and not self.client.exists(LAST_RECOVERY)
        heartbeats = dict(self.client.zrange(HEARTBEATS, 0, -1, withscores=True))
        result = tuple(self.run("recover", 0 if all_expired else HOUR_MS, MAX_CRASHES, HOUR_MS))
        recovered = heartbeats.keys() - set(self.client.zrange(HEARTBEATS, 0, -1))
        expired = {lease for lease, at in heartbeats.items() if all_expired or at == LONG_AGO_MS}
        assert recovered == (set() if self.is_grace_period else expired)
        assert result == self.model.crash({lease.decode() for lease in recovered})

    @rule(is_over=st.booleans())
    def begin_or_end_a_grace_period(self, is_over: bool) -> None:
        """End the grace period, or let the next recovery start a grace period, as after an outage of Redis."""
        self.client.delete(GRACE if is_over else LAST_RECOVERY)
        self.is_grace_period = self.is_grace_period and not is_over

    @rule(queue=st.sampled_from(QUEUES), times=st.integers(1, 4))
    def crash_workers_one_after_another(self, queue: str, times: int) -> None:
        """Let each of several workers lease the next entry and crash."""
        for _ in range(times):
            self.lease(self.make_worker(queue), 1)
            self.recover(all_expired=True)

    @rule()
    def flush_scripts(self) -> None:
        self.client.script_flush()

    @rule(nth=st.integers(0, 99), how=st.sampled_from(CORRUPTIONS))
    def corrupt(self, nth: int, how: str) -> None:
        if alive := [pair for queue in QUEUES for pair in self.model.alive(queue).items()]:
            entry_id, entry = alive[nth % len(alive)]
            key = f"{KEY_PREFIX}:{entry.queue}.msgs"
            self.client.hset(key, entry_id, corrupt(entry_id, entry, self.client.hget(key, entry_id), how))

    @invariant()
    def redis_matches_the_model(self) -> None:
        for queue in QUEUES:
            entries = {key: entry for key, entry in self.model.entries.items() if entry.queue == queue}
            assert_redis_holds(self.client, queue, entries)
        self.model.assert_nothing_is_lost_or_repeated()

    def teardown(self) -> None:
        """Check that healthy workers can settle all remaining entries."""
        if sys.exc_info()[0] is not None:  # a failed step is reported without further checks
            return
        self.begin_or_end_a_grace_period(is_over=True)
        self.recover(all_expired=True)
        for queue in QUEUES:
            for entry_id, entry in self.model.entries_in(queue, DELAYED).items():
                self.make_due(entry_id, entry)
            worker = self.make_worker(queue)
            while self.model.alive(queue):
                batch = LeasedBatch(queue, worker.lease, self.lease(worker, 5))
                is_corrupt = any(self.model.entries[entry_id].is_corrupt for entry_id in batch.bytes_of)
                self.call(make_settlement(batch, "dead" if is_corrupt else "done", 0), batch)
        self.redis_matches_the_model()
        assert_counters_match(self.client, self.model)
